"""Checks of a folder of data: what it holds, and what is wrong with it."""
