"""Persona maths: sums read as exact numbers and recomputed, answers compared, problems written and solved."""
