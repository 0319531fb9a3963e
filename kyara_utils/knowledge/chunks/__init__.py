"""From documents to passages: layout, packing to a token budget, exact and near duplicates."""
