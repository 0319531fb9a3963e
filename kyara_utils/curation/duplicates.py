"""Exact, near and semantic duplicates, each removal with a kept witness.

Three promises: rows are judged best first (score, then id), so the result does not depend on the order they
come in; every removed row names the kept row that it repeats; no two kept rows repeat each other (in
`near_duplicates` but for the small miss rate of MinHash). Tools that search approximately (semhash) or only
inside k-means clusters (SemDeDup, arXiv 2303.09540) cannot give the last one.

Two maths rows whose questions differ in a number or operator are never duplicates: they are two exercises
made from one template.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import answer, question, reject
from kyara_utils.text.folding import OPERATORS, STEP, Row, best_first, fold, is_math, jaccard, ngrams, numbers

if TYPE_CHECKING:
    import numpy as np

Witness = tuple[int, float]  # position of the kept row, similarity to it
PERMUTATIONS = 128
BANDS = 32  # 4 hashes a band: a pair at Jaccard 0.7 becomes a candidate with probability 0.9998


def exact_duplicates(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Drop rows equal in first user turn and answer but for script, width, case, space and punctuation."""
    first: dict[tuple[object, ...], int] = {}
    removed: dict[int, Witness] = {}
    for position in best_first(rows):
        key = _exact_key(rows[position])
        if key in first:
            removed[position] = (first[key], 1.0)
        else:
            first[key] = position
    return _split(rows, removed, "exact_duplicate")


def _exact_key(row: Row) -> tuple[object, ...]:
    """Folding drops the point of 1.5 and the sign of 3-2, so the numbers belong to the key as well."""
    texts = (question(row), answer(row))
    keep = OPERATORS if is_math(row) else ""
    return (*(fold(text, keep) for text in texts), *(_decimals(text) for text in texts))


def _decimals(text: str) -> tuple[str, ...]:
    return tuple(number for number in numbers(text) if number not in OPERATORS)


def near_duplicates(rows: list[Row], threshold: float = 0.7, n: int = 5, seed: int = 42) -> tuple[list[Row], list[Row]]:
    """Drop rows whose character n-grams (question and answer) reach Jaccard `threshold` with a kept row's.

    MinHash proposes the pairs (rensa), the exact Jaccard similarity decides them. A pair at the threshold is
    missed with probability (1 - threshold⁴)³², 0.0002 at 0.7.
    """
    from rensa import RMinHash, RMinHashLSH

    _check_share(threshold)
    index = RMinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, num_bands=BANDS)
    differ = _number_guard(rows)
    texts = [fold(question(row) + "\n" + answer(row), OPERATORS if is_math(row) else "") for row in rows]
    removed: dict[int, Witness] = {}
    for position in best_first(rows):
        grams = ngrams(texts[position], n)
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=seed)
        sketch.update(sorted(grams))
        candidates = [c for c in sorted(index.query(sketch)) if not differ(position, c)]
        similar = [(c, jaccard(grams, ngrams(texts[c], n))) for c in candidates]
        witness = max(similar, key=lambda pair: pair[1], default=(0, 0.0))
        if witness[1] >= threshold:
            removed[position] = witness
        else:
            index.insert(position, sketch)
    return _split(rows, removed, "near_duplicate")


def semantic_duplicates(
    rows: list[Row], vectors: "np.ndarray", threshold: float = 0.95, block: int = 2048
) -> tuple[list[Row], list[Row]]:
    """Drop rows whose vector has cosine ≥ `threshold` with a kept row's; exact greedy, best row first.

    `vectors`: float32 [n, d], L2-normalised, in the order of `rows`. Memory beside them is one copy of the
    kept vectors and a few [block, block] matrices; time is O(n · kept · d) in matrix products.
    """
    _check_share(threshold)
    _check_vectors(rows, vectors)
    return _split(rows, _greedy_cover(rows, vectors, threshold, block), "semantic_duplicate")


def _greedy_cover(rows: list[Row], vectors: "np.ndarray", threshold: float, block: int) -> dict[int, Witness]:
    import numpy as np

    cover = _Cover(rows, vectors, block)
    order = np.array(best_first(rows), dtype=np.int64)
    removed: dict[int, Witness] = {}
    for start in range(0, len(order), block):
        batch = order[start : start + block]
        witness, best = cover.nearest(batch)
        within = cover.similarity(batch, batch, vectors[batch])
        for i, position in enumerate(batch):
            if best[i] >= threshold:
                removed[int(position)] = (int(witness[i]), float(best[i]))
                continue
            cover.add(position)
            witness = np.where(within[:, i] > best, position, witness)
            best = np.maximum(best, within[:, i])
    return removed


class _Cover:
    """The rows kept so far, with their vectors side by side so that a block is compared in one product."""

    def __init__(self, rows: list[Row], vectors: "np.ndarray", block: int) -> None:
        import numpy as np

        self.vectors, self.block, self.count = vectors, block, 0
        self.math, self.keys = _number_keys(rows)
        self.kept = np.empty(len(rows), dtype=np.int64)
        self.kept_vectors = np.empty_like(vectors)

    def add(self, position: int) -> None:
        self.kept[self.count], self.kept_vectors[self.count] = position, self.vectors[position]
        self.count += 1

    def similarity(self, left: "np.ndarray", right: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
        """Return cosines [len(left), len(right)] to the rows' vectors `targets`, -1 for guarded pairs."""
        cosine = self.vectors[left] @ targets.T
        guarded = self.math[left, None] | self.math[None, right]
        cosine[guarded & (self.keys[left, None] != self.keys[None, right])] = -1.0
        return cosine

    def nearest(self, batch: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
        """Return (position, cosine) of the most similar kept row for each row of the batch."""
        import numpy as np

        witness = np.zeros(len(batch), dtype=np.int64)
        best = np.full(len(batch), -1.0, dtype=np.float32)
        for start in range(0, self.count, self.block):
            part = slice(start, min(start + self.block, self.count))
            cosine = self.similarity(batch, self.kept[part], self.kept_vectors[part])
            column = cosine.argmax(axis=1)
            value = cosine[np.arange(len(batch)), column]
            witness, best = np.where(value > best, self.kept[part][column], witness), np.maximum(best, value)
        return witness, best


def _number_keys(rows: list[Row]) -> tuple["np.ndarray", "np.ndarray"]:
    """Return (is maths [n] bool, number key [n] int): equal keys mean equal numbers in the question."""
    import numpy as np

    seen: dict[tuple[str, ...], int] = {}
    keys = [seen.setdefault(numbers(question(row)), len(seen)) for row in rows]
    return np.array([is_math(row) for row in rows], dtype=bool), np.array(keys, dtype=np.int64)


def _number_guard(rows: list[Row]) -> Callable[[int, int], bool]:
    math, keys = _number_keys(rows)
    return lambda i, j: bool((math[i] or math[j]) and keys[i] != keys[j])


def _split(rows: list[Row], removed: dict[int, Witness], rule: str) -> tuple[list[Row], list[Row]]:
    kept = [row for position, row in enumerate(rows) if position not in removed]
    rejects = [
        reject(STEP, rule, rows[position], f"witness={rows[other]['id']} similarity={similarity:.4f}")
        for position, (other, similarity) in sorted(removed.items())
    ]
    return kept, rejects


def _check_share(threshold: float) -> None:
    if not 0.0 < threshold <= 1.0:
        raise KyaraError(f"threshold {threshold} is outside (0, 1]; try 0.7 for text, 0.95 for vectors")


def _check_vectors(rows: list[Row], vectors: "np.ndarray") -> None:
    import numpy as np

    if vectors.ndim != 2 or len(vectors) != len(rows) or vectors.dtype != np.float32:
        found = f"{vectors.dtype} {list(vectors.shape)} for {len(rows)} rows"
        raise KyaraError(f"vectors are {found}; give float32 [rows, dimensions]")
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if not np.all(np.abs(norms - 1.0) < 1e-3):
        raise KyaraError("vectors are not of length 1; divide each by its L2 norm first")
