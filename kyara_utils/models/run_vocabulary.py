"""The kept vocabulary of a run: the corpus, and all the text that this package itself puts before the models."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kyara_utils.models.gguf_file import read_gguf
from kyara_utils.models.packages import gemma_gguf
from kyara_utils.models.vocabulary import kept_ids
from kyara_utils.runs.files import sha256_of

PACKAGE = Path(__file__).resolve().parents[1]


def package_texts() -> list[str]:
    """Prompts, personas and benchmarks of this package, as text."""
    patterns = ("*/prompts/*.md", "data/*.jsonl", "data/benchmarks/*.jsonl")
    return [path.read_text(encoding="utf-8") for pattern in patterns for path in sorted(PACKAGE.glob(pattern))]


def run_vocabulary(texts: Iterable[str], size: int = 20480) -> dict[str, Any]:
    """Return {gguf_sha256, full_size, ids} for the embedded Gemma; `ids` is empty for size 0 (keep all).

    Raises `KyaraError` when the texts alone need more than `size` tokens.
    """
    gguf = gemma_gguf()
    full = len(read_gguf(gguf).need("tokenizer.ggml.tokens"))
    ids = kept_ids(gguf, [*texts, *package_texts()], size) if size else []
    return {"gguf_sha256": sha256_of(gguf), "full_size": full, "ids": ids}
