"""Talking to a run: conversations, answers from its index with checked citations, its models behind an address."""
