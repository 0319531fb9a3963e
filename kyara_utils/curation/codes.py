"""Vectors as integers of eight bits, whose products tell nearly all pairs apart and lose none that is close.

For unit vectors, cosine ≥ τ is distance² ≤ 2 - 2τ. Distances only shrink on the first principal axes plus one
coordinate for the length of the rest, and where coordinates are cut at a largest value; rounding moves a vector by a
length that is known. So codes further apart than all that allows belong to vectors that are no duplicates. Processors
with VNNI instructions multiply integers of eight bits four times as fast as float32.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SAMPLE = 20_000  # vectors from which axes and centroids are found
TASTED = 1500  # vectors on which the number of columns is chosen
COLUMNS = (64, 96, 128, 192, 256)  # of a code
LARGEST = 127
DIGITS = 4  # columns for the larger digit of half a code's squared length; the smaller one has a column of its own
SLACK = 2e-3  # of a distance: rounding in float32 is a tenth of it
SMALLEST_STEP = 1e-4  # of vectors that are all alike
HIT_COST = 200_000  # a pair that codes do not tell apart costs as much as this many columns of a product
TILE = 1024  # columns of one product
PRODUCT = 256 * 1024  # its numbers, which stay in the processor's cache


class Axes:
    """Distances of `coordinates` are never longer than those of the vectors."""

    def __init__(self, vectors: np.ndarray, threshold: float) -> None:
        """vectors: float32 [n, d] of length 1."""
        sample = vectors[:: max(1, len(vectors) // SAMPLE)]
        self.mean = sample.mean(axis=0)
        centred = sample - self.mean
        _, principal = np.linalg.eigh(centred.T @ centred)
        longest = _squares(vectors).max()
        self.reach = np.sqrt(2.0 * max(0.0, longest - threshold)) + SLACK  # the distance at the threshold
        self.step = max(SMALLEST_STEP, float(np.sqrt(_squares(centred).max() / 2 / DIGITS)) / LARGEST)
        self._choose(np.ascontiguousarray(principal[:, ::-1]), sample[:: max(1, len(sample) // TASTED)])

    def _choose(self, principal: np.ndarray, sample: np.ndarray) -> None:
        """Take as many axes as cost least: a product grows with them, the pairs left for an exact cosine fall."""
        costs = {}
        for width in (
            *(found for columns in COLUMNS if (found := columns - DIGITS - 2) < len(principal)),
            len(principal),
        ):
            self._turn(principal, width)
            codes = Codes(self, sample, np.arange(len(sample)))
            left = len(likely(*codes.queries(codes.places), codes.targets)[0]) / len(sample) ** 2 - 1 / len(sample)
            costs[width] = self.columns + left * HIT_COST
        self._turn(principal, min(costs, key=costs.__getitem__))

    def _turn(self, principal: np.ndarray, width: int) -> None:
        """Turned at random within the same space, all coordinates have one spread and few are cut."""
        turn = np.linalg.qr(np.random.default_rng(0).standard_normal((width, width)))[0]
        self.basis = principal[:, :width] @ turn.astype(np.float32)

    @property
    def columns(self) -> int:
        """Columns of a code."""
        return self.basis.shape[1] + 1 + DIGITS + 1

    def coordinates(self, vectors: np.ndarray) -> np.ndarray:
        """Return float32 [n, width + 1]: coordinates on the axes, and the length of the rest."""
        centred = vectors - self.mean
        found = np.empty((len(vectors), self.basis.shape[1] + 1), np.float32)
        np.matmul(centred, self.basis, out=found[:, :-1])
        found[:, -1] = np.sqrt(np.maximum(_squares(centred) - _squares(found[:, :-1]), 0.0))
        return found


class Codes:
    """The codes of all vectors: `likely(*queries(some), targets)` are the pairs that may reach the threshold."""

    def __init__(self, axes: Axes, vectors: np.ndarray, order: np.ndarray) -> None:
        """order: int64 [n], position of the vector at each place; a code takes a byte for each column."""
        self.axes, self.places = axes, np.arange(len(order))
        self.targets = np.zeros((len(order), axes.columns), np.int8)
        self._moved, self._squares = np.zeros(len(order)), np.zeros(len(order), np.int32)
        for start in range(0, len(order), 1 << 14):
            part = slice(start, start + (1 << 14))
            exact = np.clip(axes.coordinates(vectors[order[part]]) / axes.step, -LARGEST, LARGEST)
            whole = np.rint(exact)
            self._moved[part] = np.sqrt(_squares(exact - whole))
            self._squares[part] = _squares(whole)
            self.targets[part, : -DIGITS - 1] = whole
            self.targets[part, -DIGITS - 1 :] = _digits(self._squares[part] // 2)
        self._most = self._moved.max()

    def queries(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (int8 [m, columns], int32 [m]): codes, and the product that a target within reach has at least.

        With distance² ≤ D² of codes a and b: a · b - |b|² / 2 ≥ (|a|² - D²) / 2.
        """
        found = self.targets[places]
        found[:, -DIGITS - 1 :] = [-LARGEST] * DIGITS + [-1]
        reach = self.axes.reach / self.axes.step + self._moved[places] + self._most
        return found, np.floor((self._squares[places] - reach**2) / 2).astype(np.int32) - 1


def _digits(numbers: np.ndarray) -> np.ndarray:
    """Return [n, DIGITS + 1] of 0 to LARGEST: LARGEST · (all but the last) + the last is the number, or below it."""
    large, small = np.divmod(numbers, LARGEST)
    parts = [np.clip(large - LARGEST * digit, 0, LARGEST) for digit in range(DIGITS)]
    return np.stack([*parts, small], axis=1)


def likely(queries: np.ndarray, least: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (row, column), each int64 [pairs], of pairs whose product is `least` of the row or more, row by row."""
    import torch

    width, wide = len(targets), max(1, min(len(targets), TILE))
    columns = torch.from_numpy(targets).T.split(wide, 1) if width else ()
    memory, hits = torch.empty(max(1, min(len(queries), PRODUCT // wide)) * wide, dtype=torch.int32), []
    for start in range(0, len(queries), len(memory) // wide):
        part = slice(start, start + len(memory) // wide)
        for number, tile in enumerate(columns):
            row, column = _hits(torch.from_numpy(queries[part]), tile, least[part], memory)
            hits.append((row + start) * width + column + number * wide)
    found = np.sort(np.concatenate(hits)) if hits else np.empty(0, np.int64)
    return found // max(1, width), found % max(1, width)


def _hits(
    queries: "torch.Tensor", targets: "torch.Tensor", least: np.ndarray, memory: "torch.Tensor"
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the products that reach `least`; rows without any are read only once."""
    import torch

    if exact_bytes():
        out = memory[: len(queries) * targets.shape[1]].view(len(queries), -1)
        product = torch._int_mm(queries, targets, out=out)
    else:
        product = torch.mm(queries.float(), targets.float()).int()  # below 2²⁴, so exact as well
    rows = np.flatnonzero(product.amax(1).numpy() >= least)
    found = np.flatnonzero((product.numpy()[rows] >= least[rows, None]).ravel())
    row, column = np.divmod(found, targets.shape[1])
    return rows[row], column


@lru_cache(maxsize=1)
def exact_bytes() -> bool:
    """Tell whether bytes are multiplied fast and exactly: processors without VNNI cut sums of two at 16 bits."""
    import torch

    numbers = torch.full((64, 64), LARGEST, dtype=torch.int8)
    return torch.backends.mkldnn.is_available() and bool((torch._int_mm(numbers, numbers) == 64 * LARGEST**2).all())


@contextmanager
def workers() -> Iterator[Executor]:
    """A thread for each core, in which torch's products start no further ones."""
    import torch

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(before, initializer=partial(torch.set_num_threads, 1)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _squares(vectors: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", vectors, vectors)
