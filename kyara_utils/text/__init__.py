"""Ground floor: normalised and folded text, n-grams and near-duplicate search, rules that text must pass."""
