"""Measurements beside peers, in one process, as ratios: `python -m benchmarks.<name> [--json FILE]`."""
