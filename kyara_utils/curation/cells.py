"""Bounds that spare most of n² cosines without losing one: principal axes of the vectors, and cells around centroids.

For unit vectors, cosine ≥ τ is distance² ≤ 2 - 2τ. Two lower bounds of the distance are cheap. (1) On the first k
principal axes plus one coordinate for the length of the rest, distances only shrink; one product of width k + 3
tests it. (2) A vector nearest to centroid a is at least (|x - b|² - |x - a|²) / (2 |a - b|) away from every vector
nearest to centroid b, which lies beyond the plane between the two, so most cells are skipped whole.
"""

from collections.abc import Iterator

import numpy as np

from kyara_utils.text.growing import Growing

SAMPLE = 20_000  # vectors from which axes and centroids are found
WIDTHS = (32, 64, 96, 128, 192)
MOST_CELLS = 1024
SLACK = 1e-4  # of a cosine or a distance: rounding in float32 is a hundred times smaller
EXACT_COST = 12  # an exact cosine of one pair costs as much as this many coordinates in a block product
TASTED = 500  # vectors on which a width is chosen and the cells are tried
WORTHWHILE = 0.6  # share of cells that a vector must visit, above which one product with all is faster
TILE = 1024  # rows and columns of one product, so that it stays in the processor's cache


class Axes:
    """Vectors as features: features(x) · targets(y) ≥ x · y, so below `limit` the cosine is below the threshold."""

    def __init__(self, vectors: np.ndarray, threshold: float) -> None:
        """vectors: float32 [n, d] of length 1."""
        sample = vectors[:: max(1, len(vectors) // SAMPLE)]
        self.mean = sample.mean(axis=0)
        centred = sample - self.mean
        _, basis = np.linalg.eigh(centred.T @ centred)
        self.basis = np.ascontiguousarray(basis[:, ::-1])  # largest variance first
        self.limit = threshold - SLACK
        longest = np.einsum("ij,ij->i", vectors, vectors).max()
        self.reach = np.sqrt(2.0 * max(0.0, longest - threshold)) + SLACK  # the distance at the threshold
        self.basis = self.basis[:, : self._width(sample[:: max(1, len(sample) // TASTED)])]

    def _width(self, sample: np.ndarray) -> int:
        """The width of least cost: the product grows with it, the pairs left for an exact cosine fall."""
        full, costs = self.basis, {}
        for width in (*(width for width in WIDTHS if width < full.shape[1]), full.shape[1]):
            self.basis = full[:, :width]
            left = (self.features(sample) @ self.targets(sample).T >= self.limit).mean() - 1 / len(sample)
            costs[width] = width + left * EXACT_COST * full.shape[1]
        self.basis = full
        return min(costs, key=costs.__getitem__)

    def features(self, vectors: np.ndarray) -> np.ndarray:
        """Return float32 [n, width + 3]: coordinates, length of the rest, what centring took off x · y, 1."""
        centred = vectors - self.mean
        found = np.ones((len(vectors), self.basis.shape[1] + 3), np.float32)
        np.matmul(centred, self.basis, out=found[:, :-3])
        square = np.einsum("ij,ij->i", centred, centred)
        rest = square - np.einsum("ij,ij->i", found[:, :-3], found[:, :-3])
        lengths = np.einsum("ij,ij->i", vectors, vectors)
        found[:, -3], found[:, -2] = np.sqrt(np.maximum(rest, 0.0)), (lengths - square) / 2
        return found

    def targets(self, vectors: np.ndarray) -> np.ndarray:
        """Return the features with the last two columns exchanged."""
        return self.exchanged(self.features(vectors))

    @staticmethod
    def exchanged(features: np.ndarray) -> np.ndarray:
        """Features as targets."""
        return np.concatenate([features[:, :-2], features[:, :-3:-1]], axis=1)


class Cells:
    """Kept vectors by their nearest centroid; `pairs` yields those that may reach the threshold with a query."""

    def __init__(self, axes: Axes, sample: np.ndarray, count: int) -> None:
        """sample: vectors among which centroids are found; count: how many vectors will be kept at most."""
        sample, self.axes = axes.features(sample)[:, :-3], axes
        self._place(_centroids(sample, min(MOST_CELLS, int(count**0.5))))
        if self._near(sample[:TASTED]).mean() > WORTHWHILE:
            self._place(sample[:1])
        self.members = [(Growing(np.int64), Growing(np.float32, axes.basis.shape[1] + 3)) for _ in self.centroids]

    def _place(self, centroids: np.ndarray) -> None:
        self.centroids = centroids
        self.apart = np.sqrt(np.maximum(_squares(centroids, centroids), 1e-12))

    def _near(self, coordinates: np.ndarray) -> np.ndarray:
        """Return bool [rows, cells]: the cells that may hold a vector within reach."""
        squares = _squares(coordinates, self.centroids)
        own = squares.argmin(axis=1)
        gap = squares - squares[np.arange(len(own)), own][:, None]
        gap /= 2.0 * self.apart[own]
        return gap <= self.axes.reach

    def add(self, places: np.ndarray, features: np.ndarray) -> None:
        """Keep vectors under their `places` (int64 [m])."""
        own = _squares(features[:, :-3], self.centroids).argmin(axis=1)
        targets = self.axes.exchanged(features)
        for cell in np.unique(own):
            for store, values in zip(self.members[cell], (places, targets), strict=True):
                store.extend(values[own == cell])

    def pairs(self, features: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (row of `features`, place of a kept vector), each int64 [pairs], a cell at a time."""
        near = self._near(features[:, :-3])
        for cell, (places, targets) in enumerate(self.members):
            asked = np.flatnonzero(near[:, cell])
            for start in range(0, len(places.rows) if len(asked) else 0, TILE):
                part = slice(start, start + TILE)
                row, column = likely(features[asked], targets.rows[part], self.axes.limit)
                yield asked[row], places.rows[part][column]


def likely(features: np.ndarray, targets: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (row, column), each int64 [pairs], of the pairs that the bound leaves, in the order of the rows."""
    hits = [np.empty(0, np.int64)]
    for start in range(0, len(features), TILE):
        bound = features[start : start + TILE] @ targets.T
        hits.append(np.flatnonzero(bound >= limit) + start * len(targets))
    found = np.concatenate(hits)
    return found // max(1, len(targets)), found % max(1, len(targets))


def _centroids(sample: np.ndarray, count: int) -> np.ndarray:
    """Lloyd's algorithm, five rounds; the result of the search does not depend on how good they are."""
    chosen = np.random.default_rng(0).choice(len(sample), max(1, min(count, len(sample))), replace=False)
    centroids = sample[np.sort(chosen)].copy()
    for _ in range(5 if len(centroids) > 1 else 0):
        own = _squares(sample, centroids).argmin(axis=1)
        order = np.argsort(own, kind="stable")
        cells, starts, counts = np.unique(own[order], return_index=True, return_counts=True)
        centroids[cells] = np.add.reduceat(sample[order], starts, axis=0) / counts[:, None]
    return centroids


def _squares(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared distances, float32 [left, right]."""
    found = left @ (-2.0 * right.T)
    found += np.einsum("ij,ij->i", left, left)[:, None]
    found += np.einsum("ij,ij->i", right, right)
    return found
