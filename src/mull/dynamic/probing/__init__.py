"""Measures what estimators need of a query, and counts what it costs."""
