"""Metrics, from a Prometheus server or from a metric page."""
