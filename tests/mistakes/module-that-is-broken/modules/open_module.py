"""A module with an open schema."""

SCHEMA = {"type": "object"}


def read(params, ctx):
    return None


def desired(params):
    return None
