"""Model files: GGUF read and written, tokenizers, vocabularies and their trimming, chat templates, base models."""
