"""Benchmarks that a judge grades: MT-Bench, Arena-Hard, AlpacaEval, AlignBench, and agreement with people."""
