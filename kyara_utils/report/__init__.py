"""Figures, dataset and model cards, and the offline pages of a run (`site`), all from its own tables and manifests."""
