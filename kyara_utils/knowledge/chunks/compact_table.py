"""A map of 64-bit keys to 32-bit values in some 30 bytes an entry, where a dict takes 150.

Chunking a corpus larger than memory still has to remember each text and each id that it has given out.
"""

from array import array

FILLED = 0.6  # share of slots in use before the table doubles
MIXER = 0x9E3779B97F4A7C15  # 2⁶⁴ over the golden ratio, odd: counted numbers × it, modulo 2⁶⁴, are spread and distinct
SLACK = 4096  # slots past the last, so that probing never wraps round


class CompactTable:
    """Open addressing with linear probing; keys are well-mixed integers (parts of a hash) other than 0."""

    def __init__(self, slots: int = 1 << 14) -> None:
        self._used = 0
        self._allocate(slots)

    def __len__(self) -> int:
        return self._used

    def _allocate(self, slots: int) -> None:
        self._mask, self._limit = slots - 1, int(slots * FILLED)
        self._keys, self._values = array("Q", bytes(8 * (slots + SLACK))), array("I", bytes(4 * (slots + SLACK)))

    def add(self, key: int, value: int = 0) -> int | None:
        """Keep `value` under a new `key` and return None; return the value of a key already kept."""
        keys, slot = self._keys, key & self._mask
        while held := keys[slot]:
            if held == key:
                return self._values[slot]
            slot += 1
        keys[slot], self._values[slot] = key, value
        self._used += 1
        if self._used > self._limit or slot > self._mask + SLACK - 2:
            self._grow()
        return None

    def set(self, key: int, value: int) -> None:
        """Replace the value of a key that is kept."""
        slot = key & self._mask
        while self._keys[slot] != key:
            slot += 1
        self._values[slot] = value

    def _grow(self) -> None:
        """Double the slots; in the order of their home slots, each entry goes to the first free one at or after it."""
        import numpy as np

        keys, values = np.frombuffer(self._keys, np.uint64), np.frombuffer(self._values, np.uint32)
        full = keys != 0
        keys, values = keys[full], values[full]
        self._allocate(2 * (self._mask + 1))
        home = (keys & np.uint64(self._mask)).astype(np.int64)
        order = np.argsort(home, kind="stable")
        steps = np.arange(len(order))
        place = np.maximum.accumulate(home[order] - steps) + steps
        if place[-1] > self._mask + SLACK - 2:
            raise MemoryError(f"{len(order)} keys crowd one part of the table: they are no hashes")
        np.frombuffer(self._keys, np.uint64)[place] = keys[order]
        np.frombuffer(self._values, np.uint32)[place] = values[order]
