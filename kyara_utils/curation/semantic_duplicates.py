"""Semantic duplicates by cosine similarity, exactly: no two kept rows reach the threshold.

Tools that search approximately (semhash) or only inside k-means clusters (SemDeDup, arXiv 2303.09540) cannot promise
that. Rows are judged best first, each removal names a kept witness, and rows that state different numbers are never
duplicates (`rows.number_keys`).
"""

from typing import TYPE_CHECKING

from kyara_utils.curation.duplicates import Witness, check_share, split
from kyara_utils.curation.rows import Row, best_first, number_keys
from kyara_utils.runs.errors import KyaraError

if TYPE_CHECKING:
    import numpy as np


def semantic_duplicates(
    rows: list[Row], vectors: "np.ndarray", threshold: float = 0.95, block: int = 2048
) -> tuple[list[Row], list[Row]]:
    """Drop rows whose vector has cosine ≥ `threshold` with a kept row's; exact greedy, best row first.

    `vectors`: float32 [n, d], L2-normalised, in the order of `rows`. Memory beside them is one copy of the
    kept vectors and a few [block, block] matrices; time is O(n · kept · d) in matrix products.
    """
    check_share(threshold)
    _check_vectors(rows, vectors)
    return split(rows, _greedy_cover(rows, vectors, threshold, block), "semantic_duplicate")


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
        self.groups, self.views = number_keys(rows)
        self.kept = np.empty(len(rows), dtype=np.int64)
        self.kept_vectors = np.empty_like(vectors)

    def add(self, position: int) -> None:
        self.kept[self.count], self.kept_vectors[self.count] = position, self.vectors[position]
        self.count += 1

    def similarity(self, left: "np.ndarray", right: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
        """Return cosines [len(left), len(right)] to the rows' vectors `targets`, -1 for guarded pairs."""
        cosine = self.vectors[left] @ targets.T
        cosine[self.groups[left, None] != self.groups[None, right]] = -1.0
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


def _check_vectors(rows: list[Row], vectors: "np.ndarray") -> None:
    import numpy as np

    if vectors.ndim != 2 or len(vectors) != len(rows) or vectors.dtype != np.float32:
        found = f"{vectors.dtype} {list(vectors.shape)} for {len(rows)} rows"
        raise KyaraError(f"vectors are {found}; give float32 [rows, dimensions]")
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if not np.all(np.abs(norms - 1.0) < 1e-3):
        raise KyaraError("vectors are not of length 1; divide each by its L2 norm first")
