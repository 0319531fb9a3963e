"""Drop passages that repeat another with small changes: mirrored pages and boilerplate crowd out real hits.

Two passages that differ in a number are two facts, never duplicates.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.readers.documents import STEP
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import reject
from kyara_utils.text.normalise import search_text

if TYPE_CHECKING:
    import numpy as np

BANDS = 16  # a pair at Jaccard 0.9 is missed with probability (1 - 0.9⁴)¹⁶ = 2·10⁻⁸
BATCH = 512  # chunks folded and looked up at once
NUMBER = re.compile(r"\d+(?:[.,]\d+)*|[零〇一二两三四五六七八九十百千万亿]{2,}")


def drop_near_duplicates(chunks: Sequence[Chunk], threshold: float = 0.9) -> tuple[list[Chunk], list[dict[str, Any]]]:
    """Return (kept, rejects); a reject row (rule `near_duplicate`) names the kept chunk and the similarity.

    The first of two similar chunks stays.
    """
    kept, rejects = [], []
    for chunk, rejected in iter_near_duplicates(chunks, threshold):
        (rejects if rejected else kept).append(rejected or chunk)
    return kept, rejects


def iter_near_duplicates(
    chunks: Iterable[Chunk], threshold: float = 0.9
) -> Iterator[tuple[Chunk, dict[str, Any] | None]]:
    """Yield every chunk in order with its reject row, or with None if it is kept.

    Memory: `BATCH` chunks, and about 0.7 kB for each that went before, whatever its length.
    """
    from kyara_utils.text.near_duplicates import NearDuplicates

    if not 0.5 <= threshold <= 1.0:
        raise KyaraError(f"near_duplicate {threshold} is outside [0.5, 1]; try 0.9, or 0 to keep near-duplicates")
    core, ids = NearDuplicates(threshold, BANDS), []
    for batch in _batches(chunks):
        forms = [_form(chunk.text) for chunk in batch]
        ids += [chunk.id for chunk in batch]
        for chunk, witness in zip(batch, core.add(forms, _groups(forms)), strict=True):
            detail = f"witness={ids[witness[0]]} similarity={witness[1]:.4f}" if witness else ""
            yield chunk, reject(STEP, "near_duplicate", asdict(chunk), detail) if witness else None


def _batches(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    batch: list[Chunk] = []
    for chunk in chunks:
        batch.append(chunk)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def _form(text: str) -> str:
    """One script and width, without white space."""
    return "".join(search_text(text).split())


def _groups(forms: Sequence[str]) -> "np.ndarray":
    """A key of each text's numbers, int64: passages that state different ones never repeat each other."""
    import numpy as np

    numbers = ["\n".join(sorted(NUMBER.findall(form))).encode() for form in forms]
    return np.array([int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True) for text in numbers])
