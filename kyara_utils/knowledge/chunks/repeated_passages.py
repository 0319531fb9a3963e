"""Drop passages that repeat another with small changes: mirrored pages and boilerplate crowd out real hits.

Two passages that differ in a number are two facts, never duplicates.
"""

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.readers.documents import STEP
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import reject
from kyara_utils.text.minhash import ROWS
from kyara_utils.text.near_duplicates import NearDuplicates, Witness
from kyara_utils.text.normalise import search_text

if TYPE_CHECKING:
    import numpy as np

MISSED = 1e-3  # share of the pairs at the threshold that may be missed; each band more takes 20 bytes a chunk
BATCH = 512  # chunks folded and looked up at once
NUMBER = re.compile(r"\d+(?:[.,]\d+)*|[零〇一二两三四五六七八九十百千万亿]{2,}")
Item = Chunk | dict[str, Any]


def drop_near_duplicates(items: Iterable[Item], threshold: float = 0.9) -> Iterator[Item]:
    """Yield the chunks that are kept and reject rows (rule `near_duplicate`), those of `items` passed on.

    A reject row names the kept chunk and the similarity; the first of two similar chunks stays. Memory: `BATCH`
    items, and about 0.4 kB (at 0.9) for each chunk that went before, whatever its length.
    """
    if not 0.5 <= threshold <= 1.0:
        raise KyaraError(f"near_duplicate {threshold} is outside [0.5, 1]; try 0.9, or 0 to keep near-duplicates")
    core, ids = NearDuplicates(threshold, _bands(threshold)), array("Q")
    for batch in _batches(items):
        chunks = [item for item in batch if isinstance(item, Chunk)]
        forms = [_form(chunk.text) for chunk in chunks]
        ids.extend(int(chunk.id[3:], 16) for chunk in chunks)
        witnesses = iter(core.add(forms, _groups(forms)))
        for item in batch:
            yield item if isinstance(item, dict) else _judged(item, next(witnesses), ids)


def _bands(threshold: float) -> int:
    """Bands of `ROWS` hashes after which a pair at the threshold t is missed with probability (1 - t^ROWS)^bands."""
    return max(1, math.ceil(math.log(MISSED) / math.log1p(-(min(threshold, 0.999) ** ROWS))))


def _judged(chunk: Chunk, witness: Witness | None, ids: Sequence[int]) -> Item:
    if witness is None:
        return chunk
    detail = f"witness=id_{ids[witness[0]]:08x} similarity={witness[1]:.4f}"
    return reject(STEP, "near_duplicate", asdict(chunk), detail)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _form(text: str) -> str:
    """One script and width, without white space."""
    return "".join(search_text(text).split())


def _groups(forms: Sequence[str]) -> "np.ndarray":
    """A key of each text's numbers, int64: passages that state different ones never repeat each other."""
    import numpy as np

    numbers = ["\n".join(sorted(NUMBER.findall(form))).encode() for form in forms]
    digests = (blake2b(text, digest_size=8).digest() for text in numbers)
    return np.array([int.from_bytes(digest, "big", signed=True) for digest in digests], np.int64)
