"""The closed schemas of what people write, and the pages of the diagnostics: data, found by `importlib.resources`."""
