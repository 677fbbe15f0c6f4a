"""The modules: one file keeps one kind of state. Start with contract.py; README.md says how to write one."""
