"""Readers and the check of configurations, tried with inputs that nobody meant: `python -m tests.fuzz`."""
