"""The shelf of dataset layouts: one file each, found by its name."""
