"""Example inventories, one folder per environment: data that `engine init` and the documentation copy from."""
