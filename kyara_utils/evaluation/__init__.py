"""Benchmarks: run on any backend, scored in three outcomes, with intervals, checked against published figures."""
