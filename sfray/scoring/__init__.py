"""Answers against references: metrics, judges, reports."""
