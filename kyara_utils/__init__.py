"""Kyara: from a pile of documents and a base model to a strong Traditional-Chinese chat model."""

__version__ = "0.1.0"
