"""Observability of a run: logs, progress, metrics, bottlenecks."""
