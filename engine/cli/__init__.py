"""The command line: one verb per file. main.py has the table; opening.py turns arguments into a plan and a site."""
