"""Runs that are killed, resumed, and held against the run that nobody killed: `python -m tests.soak`."""
