"""Things behind a plain HTTP address."""
