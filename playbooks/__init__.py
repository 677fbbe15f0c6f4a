"""The shipped playbooks, and in `starter/` the files that `engine init` writes: data, no code."""
