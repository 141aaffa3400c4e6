"""Methods: how a network is trained and how it restores."""
