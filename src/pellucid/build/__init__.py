"""YAML files, run folders and other people's weights -> networks, methods and datasets."""
