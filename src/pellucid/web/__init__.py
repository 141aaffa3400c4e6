"""HTML: self-contained pages beside results, and the service that makes results for colleagues."""
