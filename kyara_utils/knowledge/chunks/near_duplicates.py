"""Drop passages that repeat another with small changes: mirrored pages and boilerplate crowd out real hits.

MinHash over character 5-grams proposes pairs (Broder, "On the Resemblance and Containment of Documents", 1997),
the exact Jaccard similarity decides them. Two passages that differ in a number are two facts, never duplicates.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.readers.documents import STEP
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import reject
from kyara_utils.text.normalise import search_text

PERMUTATIONS = 64
BANDS = 16  # 4 hashes a band: a pair at Jaccard 0.9 is missed with probability (1 - 0.9⁴)¹⁶ = 2·10⁻⁸
GRAM = 5
SEED = 42
NUMBER = re.compile(r"\d+(?:[.,]\d+)*|[零〇一二两三四五六七八九十百千万亿]{2,}")


def drop_near_duplicates(chunks: Sequence[Chunk], threshold: float = 0.9) -> tuple[list[Chunk], list[dict[str, Any]]]:
    """Return (kept, rejects); a reject row (rule `near_duplicate`) names the kept chunk and the similarity.

    The first of two similar chunks stays. Memory: the chunks and about 2 kB for each that is kept.
    """
    from rensa import RMinHash, RMinHashLSH

    if not 0.5 <= threshold <= 1.0:
        raise KyaraError(f"near_duplicate {threshold} is outside [0.5, 1]; try 0.9, or 0 to keep near-duplicates")
    index = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=BANDS)
    kept, rejects = [], []
    for chunk in chunks:
        form = _form(chunk.text)
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
        sketch.update(_grams(form))
        witness, similarity = _witness(form, [kept[at] for at in sorted(index.query(sketch))], threshold)
        if witness is None:
            index.insert(len(kept), sketch)
            kept.append(chunk)
        else:
            detail = f"witness={witness.id} similarity={similarity:.4f}"
            rejects.append(reject(STEP, "near_duplicate", asdict(chunk), detail))
    return kept, rejects


def _witness(form: str, candidates: Sequence[Chunk], threshold: float) -> tuple[Chunk | None, float]:
    """The most similar candidate at or above the threshold and its similarity, or (None, 0)."""
    best: tuple[Chunk | None, float] = (None, 0.0)
    mine = set(_grams(form)) if candidates else set()
    for candidate in candidates:
        other = _form(candidate.text)
        theirs = set(_grams(other))
        similarity = len(mine & theirs) / len(mine | theirs)
        if similarity >= max(threshold, best[1] + 1e-9) and _numbers(form) == _numbers(other):
            best = (candidate, similarity)
    return best


def _form(text: str) -> str:
    """One script and width, without white space."""
    return "".join(search_text(text).split())


def _grams(form: str) -> list[str]:
    return [form[at : at + GRAM] for at in range(max(1, len(form) - GRAM + 1))]


def _numbers(form: str) -> list[str]:
    return sorted(NUMBER.findall(form))
