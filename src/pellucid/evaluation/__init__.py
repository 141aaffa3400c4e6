"""Figures of a method, and faults of a folder of data."""
