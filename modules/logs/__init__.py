"""Logs: what a service, or what runs it, has written."""
