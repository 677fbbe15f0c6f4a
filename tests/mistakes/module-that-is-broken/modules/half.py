"""A module without a schema."""
