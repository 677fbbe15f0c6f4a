"""Golden data: inputs whose right answer is known."""
