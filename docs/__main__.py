"""Writes docs/reference from the code: `make docs`."""

from pathlib import Path

from engine.cli import doc

for name, text in doc.pages().items():
    Path(__file__).with_name("reference").joinpath(name).write_text(text, "utf-8")
