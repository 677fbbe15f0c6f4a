"""Requests that were kept, sent once more."""
