"""The shelf of published checkpoint formats: one file each, found by its name."""
