"""Reading, simulating and tiling scenes; every image leaves here in [0, 1]."""
