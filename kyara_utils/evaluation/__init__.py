"""Benchmark items, three-outcome scorers, intervals and score tables; only `running` asks a model."""
