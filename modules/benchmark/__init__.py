"""How fast a scoring server answers."""
