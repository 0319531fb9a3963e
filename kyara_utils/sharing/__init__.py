"""Out of a run into other people's tools: a dataset and models for the Hub, and tables in the layouts of trainers."""
