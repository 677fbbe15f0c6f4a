"""``python -m engine.cli``: the same as the command `engine`."""

from engine.cli.main import main

main()
