"""Kept vectors in cells around centroids, of which most cannot hold a duplicate of a row and are skipped.

A vector nearest to centroid a is at least (|x - b|² - |x - a|²) / (2 |a - b|) away from every vector nearest to
centroid b, which lies beyond the plane between the two.
"""

from collections.abc import Iterator

import numpy as np

from kyara_utils.curation.codes import TILE, Axes
from kyara_utils.text.growing import Growing

MOST_CELLS = 1024
TASTED = 500  # vectors on which the cells are tried
WORTHWHILE = 0.6  # share of cells that a vector must visit, above which one product with all is faster


class Cells:
    """Kept vectors by their nearest centroid; `near` yields those that may reach the threshold with a query."""

    def __init__(self, axes: Axes, sample: np.ndarray, count: int) -> None:
        """sample: vectors among which centroids are found; count: how many vectors will be kept at most."""
        sample, self.reach = axes.coordinates(sample), axes.reach
        self._place(_centroids(sample, min(MOST_CELLS, int(count**0.5))))
        if self._within(sample[:TASTED]).mean() > WORTHWHILE:
            self._place(sample[:1])
        self.members = [(Growing(np.int64), Growing(np.int8, axes.columns)) for _ in self.centroids]

    def _place(self, centroids: np.ndarray) -> None:
        self.centroids = centroids
        self.apart = np.sqrt(np.maximum(_squares(centroids, centroids), 1e-12))

    def _within(self, coordinates: np.ndarray) -> np.ndarray:
        """Return bool [rows, cells]: the cells that may hold a vector within reach."""
        squares = _squares(coordinates, self.centroids)
        own = squares.argmin(axis=1)
        gap = squares - squares[np.arange(len(own)), own][:, None]
        gap /= 2.0 * self.apart[own]
        return gap <= self.reach

    def add(self, places: np.ndarray, coordinates: np.ndarray, targets: np.ndarray) -> None:
        """Keep vectors by their `places` (int64 [m]), coordinates and codes."""
        own = _squares(coordinates, self.centroids).argmin(axis=1)
        for cell in np.unique(own):
            for store, values in zip(self.members[cell], (places, targets), strict=True):
                store.extend(values[own == cell])

    def near(self, coordinates: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (rows of `coordinates`, places, targets): rows and kept vectors that may be within reach."""
        within = self._within(coordinates)
        for cell, (places, targets) in enumerate(self.members):
            asked = np.flatnonzero(within[:, cell])
            for start in range(0, len(places.rows) if len(asked) else 0, TILE):
                yield asked, places.rows[start : start + TILE], targets.rows[start : start + TILE]


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
