"""Kyara: from a pile of documents and a base model to a strong Traditional-Chinese chat model."""

__version__ = "0.1.0"
PUBLISHED = ""  # address of the repository, for badges and set-up cells (`kyara_utils times` writes them)
