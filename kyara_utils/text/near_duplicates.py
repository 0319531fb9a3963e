"""Near duplicates in a stream of texts: MinHash proposes pairs, the exact Jaccard similarity decides them.

One core for passages and for conversations. The first of two similar texts stays, so the order in which texts are
given is the order of preference. Between proposal and decision stand two tests that cost a fraction of the decision:
the pair must agree in what the caller says it must (numbers), and an upper bound of the overlap from 1,024-bit maps
of the n-grams must reach the threshold (Sandes et al., "Bitmap Filter", arXiv 1711.07295).
"""

from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from tempfile import SpooledTemporaryFile

import numpy as np

from kyara_utils.text.growing import Growing
from kyara_utils.text.minhash import BandTable, Sketcher
from kyara_utils.text.ngrams import ngram_hashes

Confirm = Callable[[int, int], bool]  # numbers of a text and of a kept one that it may repeat: whether it does
Witness = tuple[int, float]  # number of the text that is repeated, counted from 0 in the order given; similarity
BITS = 1024
BATCH = 512  # texts that are looked up at once
IN_MEMORY = 64 * 2**20  # bytes of n-gram hashes beyond which they move to a temporary file


class NearDuplicates:
    """The texts kept so far. Memory for each: about 22 bytes a band, 200 more, and its hashes up to `IN_MEMORY`."""

    def __init__(
        self, threshold: float, bands: int = 32, n: int = 5, seed: int = 42, views: int = 1,
        doubtful: float = 1.0, confirm: Confirm | None = None,
    ) -> None:  # fmt: skip
        """threshold: Jaccard similarity of character `n`-grams from which a text repeats another.

        doubtful: similarity from which `confirm` decides about a pair below the threshold, where it is given.
        """
        self.threshold, self.n, self.given, self._confirm = threshold, n, 0, confirm
        self._least = min(doubtful, threshold) if confirm else threshold
        self._sketcher, self._table, self._store = Sketcher(bands, seed), BandTable(), _Store()
        self._numbers, self._facts = Growing(np.int64), _Facts(views)

    def add(self, texts: Sequence[str], groups: np.ndarray, views: np.ndarray | None = None) -> list[Witness | None]:
        """Take the next texts, already folded; return for each the kept text that it repeats most, or None if kept.

        groups: int64 [texts]; texts of different groups never repeat each other. views: int64 [texts, views]; a pair
        must agree in at least one column (default: no such demand).
        """
        views = np.zeros((len(texts), 1), np.int64) if views is None else views
        parts = [slice(start, start + BATCH) for start in range(0, len(texts), BATCH)]
        return [found for part in parts for found in self._add(texts[part], groups[part], views[part])]

    def _add(self, texts: Sequence[str], groups: np.ndarray, views: np.ndarray) -> list[Witness | None]:
        grams = ngram_hashes(texts, self.n)
        keys = self._sketcher.keys(grams, groups)
        facts = _Facts(views.shape[1]).extend(grams, groups, views)
        earlier = self._likely(facts, self._facts, *self._table.pairs(keys))
        here = self._likely(facts, facts, *_among(keys))
        first, places, found = self._store.count, np.full(len(texts), -1), []
        for at, own in enumerate(grams):
            mine = places[here[at]]
            witness = self._witness(own, np.concatenate([earlier[at], mine[mine >= 0]]), self.given + at)
            found.append(witness)
            if witness is None:
                places[at] = self._store.append(own)
                self._numbers.extend(np.array([self.given + at]))
        kept = np.flatnonzero(places >= 0)
        self._table.insert(keys[kept], np.arange(first, first + len(kept), dtype=np.int32))
        self._facts.extend([grams[at] for at in kept], groups[kept], views[kept])
        self.given += len(texts)
        return found

    def _likely(self, mine: "_Facts", theirs: "_Facts", own: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
        """For each text, those of its proposed partners that pass both cheap tests."""
        ok = (mine.groups[own] == theirs.groups[other]) & (mine.views[own] == theirs.views[other]).any(axis=1)
        own, other = own[ok], other[ok]
        total = mine.sizes[own] + theirs.sizes[other]
        most = (total - np.bitwise_count(mine.maps[own] ^ theirs.maps[other]).sum(axis=1, dtype=np.int64)) // 2
        ok = most >= self._least * (total - most) - 1e-9
        bounds = np.searchsorted(own[ok], np.arange(len(mine.sizes) + 1))
        return [other[ok][low:high] for low, high in pairwise(bounds)]

    def _witness(self, grams: np.ndarray, candidates: np.ndarray, number: int) -> Witness | None:
        """The candidate of the highest similarity, the first of equals, that reaches the threshold or is confirmed."""
        if not len(candidates) or not len(grams):
            return None
        sets = [self._store.read(int(candidate)) for candidate in candidates]
        sizes = np.array([len(other) for other in sets])
        joined = np.concatenate(sets)
        place = np.minimum(np.searchsorted(grams, joined), len(grams) - 1)
        shared = np.add.reduceat(grams[place] == joined, np.cumsum(sizes) - sizes, dtype=np.int64)
        similarity = shared / (len(grams) + sizes - shared)
        for best in np.argsort(-similarity, kind="stable"):
            value, other = float(similarity[best]), int(self._numbers.rows[candidates[best]])
            if value < self._least:
                break
            if value >= self.threshold or self._confirm(number, other):
                return other, value
        return None


def _among(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (later, earlier) of one batch that share a key."""
    table = BandTable()
    table.insert(keys, np.arange(len(keys), dtype=np.int32))
    own, other = table.pairs(keys)
    return own[other < own], other[other < own]


class _Facts:
    """What the cheap tests read: number of n-grams, their map of bits, group and views, a row for each text."""

    def __init__(self, views: int) -> None:
        shapes = ((np.int64, ()), (np.uint64, (BITS // 64,)), (np.int64, ()), (np.int64, (views,)))
        self._columns = [Growing(dtype, *shape) for dtype, shape in shapes]
        self.sizes, self.maps, self.groups, self.views = (column.rows for column in self._columns)

    def extend(self, grams: Sequence[np.ndarray], groups: np.ndarray, views: np.ndarray) -> "_Facts":
        sizes = np.array([len(own) for own in grams], np.int64)
        bits = np.zeros((len(grams), BITS), bool)
        if len(grams):
            bits[np.repeat(np.arange(len(grams)), sizes), np.concatenate(grams) & np.uint64(BITS - 1)] = True
        parts = (sizes, np.packbits(bits, axis=1).view(np.uint64), groups, views)
        for column, part in zip(self._columns, parts, strict=True):
            column.extend(part)
        self.sizes, self.maps, self.groups, self.views = (column.rows for column in self._columns)
        return self


class _Store:
    """The hashes of kept texts, in memory while they are few, then in a temporary file."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - lives as long as its owner
        self._ends = array("Q", [0])

    @property
    def count(self) -> int:
        return len(self._ends) - 1

    def append(self, grams: np.ndarray) -> int:
        self._file.seek(self._ends[-1])
        self._file.write(grams.tobytes())
        self._ends.append(self._ends[-1] + grams.nbytes)
        return self.count - 1

    def read(self, number: int) -> np.ndarray:
        self._file.seek(self._ends[number])
        return np.frombuffer(self._file.read(self._ends[number + 1] - self._ends[number]), np.uint64)
