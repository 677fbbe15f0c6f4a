"""A look-alike."""
