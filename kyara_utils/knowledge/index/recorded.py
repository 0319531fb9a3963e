"""Searches as part of a run's ledger: what a question found once, it finds again on any machine.

The vectors of two processors differ in their last bits, and then some searches rank otherwise (of 2,322 with noise of
1e-6 up to 2), however scores are rounded: another document in a prompt would be another call, which a shipped ledger
does not hold. Only the ids are kept; the texts are the index's.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence

import orjson

from kyara_utils.knowledge.index.ranking import Hit, Index
from kyara_utils.llm.ledger import Call, Ledger, call_key

STAGE = "search"
VERSION = 1  # of the ranking: raise it when a search finds other chunks, in another order


class RecordedIndex:
    """An index whose answers lie in a ledger, keyed by the chunks, the embedder, the question and `k`."""

    def __init__(self, index: Index, ledger: Ledger, chunk_ids: Iterable[str]):
        self._index, self._ledger, digest = index, ledger, hashlib.blake2b(digest_size=16)
        for name in chunk_ids:
            digest.update(name.encode() + b"\n")
        self._name = f"index {index.embedder.name}"
        size = len(index)  # a server's index may have grown since the chunks were written
        self._identity = f"{self._name} v{VERSION} {digest.hexdigest()} {size}"

    def search_many(self, texts: Sequence[str], k: int = 5) -> list[list[Hit]]:
        """Return what `Index.search_many` returns; only searches that the ledger lacks are made."""
        bodies = [orjson.dumps({"k": k, "query": text}) for text in texts]
        keys = [call_key(self._identity, "/search", body) for body in bodies]
        known = {key: self._ledger.get(key) for key in keys}
        new = {key: at for at, key in enumerate(keys) if known[key] is None}
        found = self._index.search_many([texts[at] for at in new.values()], k)
        found = [[[hit.chunk_id, hit.score] for hit in hits] for hits in found]
        known |= {key: {"hits": hits} for key, hits in zip(new, found, strict=True)}
        self._ledger.add(self._call(key, bodies[at], orjson.dumps(known[key])) for key, at in new.items())
        self._ledger.use(keys, STAGE)
        return self._index.hits([[(score, name) for name, score in known[key]["hits"]] for key in keys])

    def _call(self, key: str, body: bytes, response: bytes) -> Call:
        return Call(key, self._name, body.decode(), response.decode(), 0, 0, 0.0, 1, round(time.time(), 3))
