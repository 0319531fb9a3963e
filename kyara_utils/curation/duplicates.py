"""Exact and near duplicates, each removal with a kept witness.

Three promises: rows are judged best first (score, then id), so the result does not depend on the order they
come in; every removed row names the kept row that it repeats; no two kept rows repeat each other (in
`near_duplicates` but for the small miss rate of MinHash).

Rows whose questions differ in a number or operator are never duplicates: they are two exercises made from one
template, or two events. Nor does a short answer repeat a full or cited one to its question (`rows.number_keys`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from kyara_utils.curation.rows import STEP, asked, best_first, is_math, number_keys, stated_numbers
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.stored_rows import only, picked, taken
from kyara_utils.runs.tables import Row, answer, question, reject
from kyara_utils.text.folding import OPERATORS, fold, fold_all, numbers
from kyara_utils.text.near_duplicates import Confirm, NearDuplicates

if TYPE_CHECKING:
    import numpy as np

Witness = tuple[int, float]  # position of the kept row, similarity to it
BATCH = 4096  # rows folded at once


@dataclass(frozen=True)
class Doubtful:
    """Pairs of Jaccard similarity from `least` on that their vectors decide: a second look, no lower threshold.

    vectors: float32 [rows, d] of length 1, in the order of the rows; cosine: from which a pair is one. Verifying
    borderline pairs by an embedder raised the agreement on NEWS-COPY from 0.73 to 0.94 (arXiv 2210.04261).
    """

    vectors: "np.ndarray"
    least: float = 0.5
    cosine: float = 0.95

    def confirms(self, order: Sequence[int]) -> Confirm:
        """Compare texts by their number in `order`."""
        return lambda own, other: bool(self.vectors[order[own]] @ self.vectors[order[other]] >= self.cosine)


def exact_duplicates(rows: Sequence[Row]) -> tuple[Sequence[Row], list[Row]]:
    """Drop rows equal in first user turn and answer but for script, width, case, space and punctuation.

    Holds a hash for each row, some 150 bytes: good for 10,000,000 rows.
    """
    first: dict[bytes, int] = {}
    removed: dict[int, Witness] = {}
    order = best_first(rows)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        for position, row in zip(part, picked(rows, part), strict=True):
            witness = first.setdefault(_exact_key(row), position)
            if witness != position:
                removed[position] = (witness, 1.0)
    return split(rows, removed, "exact_duplicate")


def _exact_key(row: Row) -> bytes:
    """Folding drops the point of 1.5 and the sign of 3-2, so the numbers belong to the key as well."""
    texts, keep = (question(row), answer(row)), OPERATORS if is_math(row) else ""
    facts = tuple(number for number in numbers(texts[1]) if number not in OPERATORS)
    key = (*(fold(text, keep) for text in texts), stated_numbers(texts[0], is_math(row)), facts)
    return blake2b(repr(key).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def near_duplicates(
    rows: Sequence[Row], threshold: float = 0.7, n: int = 5, seed: int = 42, doubtful: Doubtful | None = None
) -> tuple[Sequence[Row], list[Row]]:
    """Drop rows whose character n-grams (question and answer) reach Jaccard `threshold` with a kept row's.

    doubtful: which pairs below the threshold are duplicates too, by their embeddings. A pair of similarity s is missed
    with probability (1 - s⁴)³²: 0.0002 at 0.7, 0.01 at 0.6, 0.13 at 0.5. Besides the rows it holds about 1 kB for each
    that is kept: good for some 1,000,000 rows.
    """
    check_share(threshold)
    order = best_first(rows)
    confirm = doubtful.confirms(order) if doubtful else None
    core = NearDuplicates(
        threshold, n=n, seed=seed, views=2, doubtful=doubtful.least if doubtful else 1.0, confirm=confirm
    )
    removed: dict[int, Witness] = {}
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        batch = picked(rows, part)
        for position, witness in zip(part, core.add(_folded(batch), *number_keys(batch)), strict=True):
            if witness:
                removed[position] = (order[witness[0]], witness[1])
    return split(rows, removed, "near_duplicate")


def _folded(rows: Sequence[Row]) -> list[str]:
    """Question (without the documents around it) and answer as one folded text; in maths the operators stay."""
    texts = [asked(row) + "\n" + answer(row) for row in rows]
    sums = [at for at, row in enumerate(rows) if is_math(row)]
    found = list(fold_all(texts))
    for at, text in zip(sums, fold_all([texts[at] for at in sums], OPERATORS), strict=True):
        found[at] = text
    return found


def split(rows: Sequence[Row], removed: dict[int, Witness], rule: str) -> tuple[Sequence[Row], list[Row]]:
    """Return (kept, rejects); a reject names the witness of its row."""
    kept = taken(rows, [position for position in range(len(rows)) if position not in removed])
    out = sorted(removed)
    witnesses = picked(only(rows, "id"), [removed[position][0] for position in out])
    rejects = [
        reject(STEP, rule, row, f"witness={witness['id']} similarity={removed[position][1]:.4f}")
        for position, row, witness in zip(out, picked(rows, out), witnesses, strict=True)
    ]
    return kept, rejects


def check_share(threshold: float) -> None:
    """Refuse a threshold that is no share."""
    if not 0.0 < threshold <= 1.0:
        raise KyaraError(f"threshold {threshold} is outside (0, 1]; try 0.7 for text, 0.95 for vectors")
