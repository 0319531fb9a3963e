"""The kept vocabulary of a run: the corpus, and all the text that this package itself puts before the models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.models.gguf_file import read_gguf
from kyara_utils.models.gguf_tokenizer import pieces_of, tokenizer_of
from kyara_utils.models.packages import gemma_gguf
from kyara_utils.models.vocabulary_choice import Used, choose_ids
from kyara_utils.runs.files import sha256_of

PACKAGE = Path(__file__).resolve().parents[1]


def package_texts() -> Iterator[str]:
    """Prompts, personas and benchmarks of this package, as text."""
    for pattern in ("*/prompts/*.md", "data/*.jsonl", "data/benchmarks/*.jsonl"):
        for path in sorted(PACKAGE.glob(pattern)):
            yield path.read_text(encoding="utf-8")


class RunVocabulary:
    """Which of the embedded Gemma's tokens a run keeps: give it every text as it streams by, then ask `chosen`."""

    def __init__(self, size: int = 20480) -> None:
        """`size` tokens are kept; 0 keeps all, and then nothing is counted."""
        self._gguf, self._size = gemma_gguf(), size
        self._used = Used(tokenizer_of(self._gguf), package_texts()) if size else None

    def add(self, text: str) -> None:
        """Count in the text of a document."""
        if self._used is not None:
            self._used.add(text)

    def chosen(self) -> dict[str, Any]:
        """Return {gguf_sha256, full_size, ids}; `ids` is empty for size 0.

        Raises `KyaraError` when the texts alone need more than `size` tokens.
        """
        full = len(read_gguf(self._gguf).need("tokenizer.ggml.tokens"))
        ids = choose_ids(pieces_of(self._gguf), self._used, self._size, "zh-Hant") if self._used is not None else []
        return {"gguf_sha256": sha256_of(self._gguf), "full_size": full, "ids": ids}
