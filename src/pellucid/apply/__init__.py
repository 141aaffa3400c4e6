"""A trained method over files: scenes, stacks of slices, radar pictures."""
