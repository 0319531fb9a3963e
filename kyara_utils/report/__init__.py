"""Figures, dataset and model cards, and one offline HTML page, all from small tables and manifests."""
