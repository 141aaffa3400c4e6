"""Speed, memory and skill, measured side by side in one run: `python -m benchmarks.NAME`."""
