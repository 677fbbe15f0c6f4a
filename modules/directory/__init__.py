"""The embedded registry: versions are folders, and a link says which one serves."""
