"""MinHash sketches and the table that finds texts with a shared band, both in arrays so that a million texts fit.

Broder, "On the Resemblance and Containment of Documents" (1997); bands as in Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", section 3.4. With bands of 4 hashes, a pair of Jaccard similarity s shares a band with
probability 1 - (1 - s⁴)^bands: 0.9998 for s = 0.7 and 32 bands.
"""

from collections.abc import Sequence

import numpy as np

from kyara_utils.text.growing import Growing
from kyara_utils.text.ngrams import mixed

ROWS = 4  # hashes of one band


class Sketcher:
    """Band keys of n-gram sets: equal keys for sets that agree in the `ROWS` minima of a band."""

    def __init__(self, bands: int, seed: int) -> None:
        """The permutations are x → a·x + b modulo 2³², with a odd, drawn from `seed`."""
        draw = np.random.default_rng(seed).integers(0, 2**32, (2, bands * ROWS), dtype=np.uint32)
        self.bands, self.factors, self.terms = bands, draw[0] | np.uint32(1), draw[1]
        self._salt = mixed(np.arange(1, bands + 1, dtype=np.uint64))

    def keys(self, grams: Sequence[np.ndarray], groups: np.ndarray) -> np.ndarray:
        """Return uint32 [texts, bands]; texts of different `groups` (int64 [texts]) share keys only by chance."""
        minima = np.full((len(grams), self.bands * ROWS), 2**32 - 1, np.uint32)
        for row, hashes in zip(minima, grams, strict=True):
            if len(hashes):
                table = np.multiply.outer(hashes.astype(np.uint32), self.factors)
                table += self.terms
                table.min(axis=0, out=row)
        key = mixed(groups.astype(np.uint64))[:, None] ^ self._salt
        for step in range(ROWS):
            key = mixed(key ^ minima[:, step::ROWS])
        return (key >> np.uint64(32)).astype(np.uint32)


class BandTable:
    """Texts by band key: a hash table of linked segments, one segment for each key of each call of `insert`.

    Memory is about 22 bytes for each text and band.
    """

    def __init__(self) -> None:
        self._heads = np.full(1 << 12, -1, np.int32)  # slot (low bits of a key) → its newest segment
        self._keys, self._next = Growing(np.uint32), Growing(np.int32)
        self._starts, self._texts = Growing(np.int32), Growing(np.int32)
        self._starts.extend(np.zeros(1, np.int32))  # segment s holds texts starts[s] … starts[s + 1]

    def insert(self, keys: np.ndarray, texts: np.ndarray) -> None:
        """Enter `texts` (int32 [m]) under their `keys` (uint32 [m, bands])."""
        flat = keys.ravel()
        order = np.argsort(flat)
        flat = flat[order]
        ends = np.flatnonzero(np.append(flat[1:] != flat[:-1], True)[: len(flat)])
        first, filled = len(self._keys.rows), len(self._texts.rows)
        self._texts.extend(np.repeat(texts, keys.shape[1])[order])
        self._starts.extend(filled + 1 + ends)
        self._keys.extend(flat[ends])
        self._next.extend(np.full(len(ends), -1, np.int32))
        if len(self._keys.rows) > len(self._heads):
            self._heads, first = np.full(len(self._heads) * 2, -1, np.int32), 0
        self._link(first)

    def _link(self, first: int) -> None:
        """Chain the segments from `first` on: within a slot each points to the one before it."""
        slots = self._keys.rows[first:] & np.uint32(len(self._heads) - 1)
        order = np.argsort(slots)
        slots, segments = slots[order], (order + first).astype(np.int32)
        new = np.ones(len(slots), bool)
        np.not_equal(slots[1:], slots[:-1], out=new[1:])
        before = np.concatenate([segments[:1], segments[:-1]])
        self._next.rows[segments] = np.where(new, self._heads[slots], before)
        last = np.append(new[1:], True)[: len(slots)]
        self._heads[slots[last]] = segments[last]

    def pairs(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (query, text), each int64 [pairs]: texts sharing a key with a row of `keys`, sorted, once."""
        wanted = keys.ravel()
        asked = np.repeat(np.arange(len(keys), dtype=np.int64), keys.shape[1])
        segment = self._heads[wanted & np.uint32(len(self._heads) - 1)]
        found = []
        while len(segment):
            there = segment >= 0
            segment, wanted, asked = segment[there], wanted[there], asked[there]
            hit = self._keys.rows[segment] == wanted
            found.append(self._expand(segment[hit], asked[hit]))
            segment = self._next.rows[segment]
        codes = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
        return codes >> 32, codes & 0xFFFFFFFF

    def _expand(self, segments: np.ndarray, asked: np.ndarray) -> np.ndarray:
        starts = self._starts.rows
        begin, counts = starts[segments], starts[segments + 1] - starts[segments]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return (np.repeat(asked, counts) << 32) | self._texts.rows[np.repeat(begin, counts) + within]
