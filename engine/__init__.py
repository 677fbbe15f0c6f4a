"""The engine: rooms on floors, imports going down only. README.md is the floor plan."""

__version__ = "0.1.0"
