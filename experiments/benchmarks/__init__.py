"""How long things take and how much memory: ``python -m experiments.benchmarks SUBJECT``."""
