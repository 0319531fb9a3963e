"""Scoring of stored answers: benchmark items, three-outcome scorers, intervals and score tables. No model is
called."""
