"""Self-contained HTML pages beside results: finished files in, one file out that opens anywhere, offline."""
