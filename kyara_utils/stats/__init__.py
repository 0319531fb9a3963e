"""Statistics that several rooms share: intervals and paired tests, agreement beyond chance, fits, corrected rates."""
