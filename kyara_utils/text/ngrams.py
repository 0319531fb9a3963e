"""Character n-grams and Jaccard similarity, as sets of strings for one pair and as sorted hashes for many texts.

Chinese has no spaces between words, so texts are compared by their runs of n characters.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_ODD = 0x9E3779B97F4A7C15  # 2⁶⁴ over the golden ratio
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # the finaliser of SplitMix64 (Steele et al. 2014)


def ngrams(text: str, n: int) -> set[str]:
    """Return the set of character n-grams; a shorter text is its own only n-gram."""
    return {text[i : i + n] for i in range(max(1, len(text) - n + 1))} if text else set()


def jaccard(a: set[str], b: set[str]) -> float:
    """Return |a ∩ b| / |a ∪ b|, 0 for two empty sets."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def ngram_hashes(texts: Sequence[str], n: int) -> "list[np.ndarray]":
    """Return, for each text, the hashes of its distinct n-grams: uint64 [grams], sorted; empty for an empty text.

    Two different n-grams share a hash with probability 2⁻⁶⁴, so set sizes and overlaps are those of `ngrams`.
    """
    import numpy as np

    padded = [text if len(text) >= n or not text else text.ljust(n, "\0") for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    windows = max(0, len(points) - n + 1)
    hashes = np.zeros(windows, np.uint64)
    for offset in range(n):
        hashes = hashes * np.uint64(_ODD) + points[offset : offset + windows]
    return _distinct(mixed(hashes), [len(text) for text in padded], n)


def _distinct(hashes: "np.ndarray", lengths: Sequence[int], n: int) -> "list[np.ndarray]":
    import numpy as np

    found, start = [], 0
    for length in lengths:
        grams = np.sort(hashes[start : start + max(0, length - n + 1)])
        new = np.empty(len(grams), bool)
        new[:1] = True
        np.not_equal(grams[1:], grams[:-1], out=new[1:])
        found.append(grams[new])
        start += length
    return found


def mixed(values: "np.ndarray") -> "np.ndarray":
    """Return uint64 values spread over all 64 bits; equal values stay equal, different ones stay different."""
    import numpy as np

    for shift, factor in _MIX:
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
