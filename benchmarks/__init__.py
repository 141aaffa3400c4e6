"""Speed, memory and quality, compared in one run: `python -m benchmarks.NAME`."""
