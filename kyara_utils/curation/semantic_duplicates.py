"""Semantic duplicates by cosine similarity, exactly: no two kept rows reach the threshold.

Tools that search approximately (semhash) or only inside k-means clusters (SemDeDup, arXiv 2303.09540) cannot promise
that. Rows are judged best first, each removal names a kept witness, and rows that state different numbers are never
duplicates (`rows.number_keys`). Every decision rests on one exact cosine per pair, so neither the order of the rows nor
the size of a block changes the result.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import numpy as np

from kyara_utils.curation.cells import Cells
from kyara_utils.curation.codes import SAMPLE, Axes, Codes, likely, workers
from kyara_utils.curation.duplicates import Witness, check_share, split
from kyara_utils.curation.rows import best_first, number_keys
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

BLOCK = 8192  # rows compared with the cells at once
PART = 512  # rows decided at once
PAIRS = 1 << 11  # exact cosines computed at once


def semantic_duplicates(
    rows: Sequence[Row], vectors: np.ndarray, threshold: float = 0.95, block: int = BLOCK
) -> tuple[Sequence[Row], list[Row]]:
    """Drop rows whose vector has cosine ≥ `threshold` with a kept row's; exact greedy, best row first.

    `vectors`: float32 [n, d], L2-normalised, in the order of `rows`. Memory beside both is some 300 bytes a row: good
    for 1,000,000 rows. All cores work.
    """
    check_share(threshold)
    _check_vectors(rows, vectors)
    return split(rows, _greedy_cover(rows, vectors, threshold, block) if rows else {}, "semantic_duplicate")


def _greedy_cover(rows: Sequence[Row], vectors: np.ndarray, threshold: float, block: int) -> dict[int, Witness]:
    """Positions of removed rows with their witnesses. Inside, a row goes by its place in the order of preference."""
    order = np.array(best_first(rows), dtype=np.int64)
    pairs = _Pairs(rows, vectors, order, threshold)
    axes = Axes(vectors, threshold)
    codes = Codes(axes, vectors, order)
    removed: dict[int, Witness] = {}
    with workers() as pool:
        for places in _parts(pairs.groups):
            sample = order[places[:: max(1, len(places) // SAMPLE)]]
            cells = Cells(axes, vectors[sample], len(places)) if len(places) > block else None
            for start in range(0, len(places), block):
                best = _cover_block(places[start : start + block], codes, cells, pairs, pool)
                removed |= {int(order[at]): (int(order[other]), cosine) for at, other, cosine in best.removed()}
    return removed


def _parts(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield places that must be compared among themselves: each large group, and small groups packed together."""
    places = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[places])) + 1
    pack: list[np.ndarray] = []
    for group in np.split(places, edges):
        if len(group) > PART:
            yield group
        elif len(group) > 1:
            if sum(map(len, pack)) + len(group) > PART:
                yield np.sort(np.concatenate(pack))
                pack = []
            pack.append(group)
    if pack:
        yield np.sort(np.concatenate(pack))


def _cover_block(places: np.ndarray, codes: Codes, cells: Cells | None, pairs: "_Pairs", pool: Executor) -> "_Best":
    """Decide a block of rows against the kept rows before it, which the cells hold, and among themselves."""
    queries, least = codes.queries(places)
    best = _Best(places)
    if cells is None:
        _decide(places, queries, least, codes, pairs, best)
        return best

    def found(task: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        asked, others, targets = task
        row, column = likely(queries[asked], least[asked], targets)
        return pairs.similar(asked[row], others[column], places)

    coordinates = codes.axes.coordinates(pairs.vectors[pairs.order[places]])
    for similar in pool.map(found, cells.near(coordinates)):
        best.take(*similar)
    kept = _decide(places, queries, least, codes, pairs, best)
    cells.add(places[kept], coordinates[kept], codes.targets[places[kept]])
    return best


def _decide(
    places: np.ndarray, queries: np.ndarray, least: np.ndarray, codes: Codes, pairs: "_Pairs", best: "_Best"
) -> np.ndarray:
    """Return bool [block]: the rows that repeat no kept row, in an earlier block or in this one."""
    kept, targets = np.zeros(len(places), bool), codes.targets[places]
    for start in range(0, len(places), PART):
        part = np.arange(start, min(start + PART, len(places)))
        earlier = np.flatnonzero(kept)
        row, column = likely(queries[part], least[part], targets[earlier])
        best.take(*pairs.similar(part[row], places[earlier][column], places))
        row, column = likely(queries[part], least[part], targets[part])
        later = column < row
        found = pairs.similar(part[row[later]], places[part][column[later]], places)
        bounds = np.searchsorted(found[0], np.append(part, part[-1] + 1))
        for at, low, high in zip(part, bounds[:-1], bounds[1:], strict=True):
            if low < high:
                still = kept[np.searchsorted(places, found[1][low:high])]
                best.take(*(values[low:high][still] for values in found))
            kept[at] = best.witness[at] < 0
    return kept


class _Pairs:
    """Exact cosines of pairs of places that the numbers allow to be duplicates."""

    def __init__(self, rows: Sequence[Row], vectors: np.ndarray, order: np.ndarray, threshold: float) -> None:
        self.vectors, self.order, self.threshold = vectors, order, np.float32(threshold)
        self.groups, self.views = (keys[order] for keys in number_keys(rows))

    def similar(self, row: np.ndarray, other: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return (row, other, cosine) of the pairs (places[row], other) that reach the threshold."""
        found = []
        for start in range(0, len(row), PAIRS):
            part = slice(start, start + PAIRS)
            left, right = places[row[part]], other[part]
            same = (self.groups[left] == self.groups[right]) & (self.views[left] == self.views[right]).any(axis=1)
            left, right = left[same], right[same]
            cosine = np.einsum("ij,ij->i", self.vectors[self.order[left]], self.vectors[self.order[right]])
            close = cosine >= self.threshold
            found.append((row[part][same][close], right[close], cosine[close]))
        empty = np.empty(0, np.int64)
        return tuple(map(np.concatenate, zip(*found, strict=True))) if found else (empty, empty, empty)


class _Best:
    """For each row of a block the most similar kept row so far, the first in the order among equals."""

    def __init__(self, places: np.ndarray) -> None:
        self.places = places
        self.witness = np.full(len(places), -1, np.int64)
        self.cosine = np.full(len(places), -1.0, np.float32)

    def take(self, row: np.ndarray, witnesses: np.ndarray, cosines: np.ndarray) -> None:
        """Consider the kept rows at the places `witnesses` for the rows `row` of the block."""
        if not len(row):
            return
        order = np.lexsort((witnesses, -cosines, row))
        first = order[np.unique(row[order], return_index=True)[1]]
        at, witness, cosine = row[first], witnesses[first], cosines[first]
        better = (cosine > self.cosine[at]) | ((cosine == self.cosine[at]) & (witness < self.witness[at]))
        self.witness[at[better]], self.cosine[at[better]] = witness[better], cosine[better]

    def removed(self) -> Iterator[tuple[int, int, float]]:
        """Yield (place, place of the witness, cosine) of the rows that are out."""
        for at in np.flatnonzero(self.witness >= 0):
            yield int(self.places[at]), int(self.witness[at]), float(self.cosine[at])


def nearest_similarities(vectors: np.ndarray, at_most: int = 5000, seed: int = 0, block: int = 1024) -> np.ndarray:
    """Return float32 [min(n, at_most)]: cosines of rows, drawn by seed, to the nearest other row of all.

    For the picture of how close rows lie; `vectors` as in `semantic_duplicates`. Time is linear in n.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:at_most])
    best = np.full(len(chosen), -1.0, np.float32)
    for start in range(0, len(vectors), block):
        cosine = vectors[chosen] @ vectors[start : start + block].T
        here = np.flatnonzero((chosen >= start) & (chosen < start + block))
        cosine[here, chosen[here] - start] = -1.0
        best = np.maximum(best, cosine.max(axis=1))
    return best


def _check_vectors(rows: Sequence[Row], vectors: np.ndarray) -> None:
    if vectors.ndim != 2 or len(vectors) != len(rows) or vectors.dtype != np.float32:
        found = f"{vectors.dtype} {list(vectors.shape)} for {len(rows)} rows"
        raise KyaraError(f"vectors are {found}; give float32 [rows, dimensions]")
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if not np.all(np.abs(norms - 1.0) < 1e-3):
        raise KyaraError("vectors are not of length 1; divide each by its L2 norm first")
