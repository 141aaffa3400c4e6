"""Generative mathematics: paths from data to noise, the way back, guidance and noise; no networks."""
