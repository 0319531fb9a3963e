"""Hybrid search over chunks: dense vectors and BM25, fused by rank, in process or on a Qdrant server.

Fusion is done here and not in the engine, so that both engines rank alike and ties break by id.
Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion" (SIGIR 2009), with their constant 60.
"""

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kyara_utils.knowledge import lexical
from kyara_utils.knowledge.chunking import Chunk
from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.knowledge.records import Record, records
from kyara_utils.runs.errors import KyaraError

FACTS = "kyara.json"  # written into a complete index
RRF_K = 60
DEPTH = 4  # candidates of each retriever for one fused hit
MAX_TIED = 1024  # candidates after which a tie is left as the engine cut it
Mode = Literal["hybrid", "dense", "bm25"]
Ranking = list[tuple[float, dict[str, Any]]]


@dataclass(frozen=True)
class Hit:
    """A found chunk; `score` is a cosine, a BM25 score or a fused rank score, by the mode of the search."""

    chunk_id: str
    score: float
    title: str
    text: str
    doc_id: str


class Index(ABC):
    """The search that every engine shares; an engine only ranks by one vector."""

    embedder: Embedder

    def search(self, text: str, k: int = 5, mode: Mode = "hybrid") -> list[Hit]:
        """Return the `k` best chunks for a question, best first. Raises `KyaraError` on an unknown mode."""
        if mode not in ("hybrid", "dense", "bm25"):
            raise KyaraError(f"unknown search mode {mode!r}; use hybrid, dense or bm25")
        if k < 1 or not text.strip():
            return []
        depth = k * DEPTH if mode == "hybrid" else k
        rankings = []
        if mode != "bm25":
            dense = self.embedder.queries([text])[0].tolist()
            rankings.append(settled(lambda n: self._rank_dense(dense, n), depth))
        if mode != "dense":
            sparse = lexical.query_vector(text)
            rankings.append(settled(lambda n: self._rank_sparse(*sparse, n), depth) if sparse[0] else [])
        ranked = fuse(rankings) if mode == "hybrid" else rankings[0]
        return [Hit(score=score, **payload) for score, payload in ranked[:k]]

    @abstractmethod
    def _rank_dense(self, vector: list[float], limit: int) -> Ranking: ...

    @abstractmethod
    def _rank_sparse(self, indices: list[int], values: list[float], limit: int) -> Ranking: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def settled(rank: Callable[[int], Ranking], limit: int) -> Ranking:
    """Rank until the cut falls between two scores: engines cut a tie at random, a rerun would differ."""
    wanted = limit + 1
    while True:
        found = rank(wanted)
        if len(found) < wanted or found[-1][0] < found[limit - 1][0] or wanted > MAX_TIED:
            return found[:limit]
        wanted *= 2


def fuse(rankings: Sequence[Ranking]) -> Ranking:
    """Sum 1 / (60 + rank) over the rankings; equal sums are ordered by chunk id."""
    scores: dict[str, float] = {}
    payloads: dict[str, dict[str, Any]] = {}
    for ranking in rankings:
        for rank, (_, payload) in enumerate(ranking, 1):
            key = payload["chunk_id"]
            scores[key] = scores.get(key, 0.0) + 1 / (RRF_K + rank)
            payloads[key] = payload
    return [(scores[key], payloads[key]) for key in sorted(scores, key=lambda key: (-scores[key], key))]


class EdgeIndex(Index):
    """Qdrant's engine in process, in one folder. One process holds it open at a time."""

    def __init__(self, path: Path, shard, embedder: Embedder, size: int) -> None:
        self.path, self.embedder = path, embedder
        self._shard, self._size = shard, size

    @classmethod
    def build(cls, path: str | Path, chunks: Sequence[Chunk], vectors: np.ndarray, embedder: Embedder) -> "EdgeIndex":
        """Index the chunks under `path`, replacing what is there only once the new index is complete."""
        path = Path(path)
        _check_replaceable(path)
        fresh = path.with_name(f"{path.name}.building-{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            _fill(fresh, records(chunks, vectors, embedder), embedder.dim)
            facts = {"embedder": embedder.name, "dim": embedder.dim, "chunks": len(chunks)}
            (fresh / FACTS).write_text(json.dumps(facts), encoding="utf-8")
            shutil.rmtree(path, ignore_errors=True)
            fresh.rename(path)
        except OSError as error:
            raise KyaraError(f"cannot write the index {path}: {error.strerror}; free the disk") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return cls.open(path, embedder)

    @classmethod
    def open(cls, path: str | Path, embedder: Embedder) -> "EdgeIndex":
        """Open a built index. Raises `KyaraError` if it is missing, in use, or of another embedder."""
        path = Path(path)
        try:
            facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise KyaraError(f"{path} holds no complete index; build it with 01_corpus_indexing") from error
        check_embedder(str(path), facts, embedder)
        return cls(path, _load(path), embedder, facts["chunks"])

    def __len__(self) -> int:
        return self._size

    def close(self) -> None:
        """Release the folder; closing twice does no harm."""
        if self._shard is not None:
            self._shard.close()
        self._shard = None

    def _rank_dense(self, vector: list[float], limit: int) -> Ranking:
        return self._rank(vector, "dense", limit)

    def _rank_sparse(self, indices: list[int], values: list[float], limit: int) -> Ranking:
        from qdrant_edge import SparseVector

        return self._rank(SparseVector(indices, values), "bm25", limit)

    def _rank(self, vector, using: str, limit: int) -> Ranking:
        from qdrant_edge import Query, QueryRequest

        if self._shard is None:
            raise KyaraError(f"the index {self.path} is closed; open it again with EdgeIndex.open")
        query = Query.Nearest(vector, using=using)
        return by_score(self._shard.query(QueryRequest(limit=limit, query=query, with_payload=True)))


def _load(path: Path):
    from qdrant_edge import EdgeShard

    try:
        return EdgeShard.load(str(path))
    except Exception as error:  # the engine raises nothing more special
        mend = "close the notebook that holds it" if _in_use(error) else "delete it and build it again"
        raise KyaraError(f"cannot open the index {path} ({error}); {mend}") from error


def _in_use(error: Exception) -> bool:
    return "WouldBlock" in str(error)


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a folder that is no index, or an open index, which would write on close."""
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / FACTS).is_file():
        raise KyaraError(f"{path} holds other files; choose a new or empty folder for the index")
    try:
        _load(path).close()
    except KyaraError as error:
        if _in_use(error):
            raise


def _fill(folder: Path, batches: Iterator[list[Record]], dim: int) -> None:
    from qdrant_edge import (
        Distance,
        EdgeConfig,
        EdgeShard,
        EdgeSparseVectorParams,
        EdgeVectorParams,
        Modifier,
        Point,
        SparseVector,
        UpdateOperation,
    )

    dense = {"dense": EdgeVectorParams(size=dim, distance=Distance.Cosine)}
    sparse = {"bm25": EdgeSparseVectorParams(modifier=Modifier.Idf)}
    folder.mkdir(parents=True)
    shard = EdgeShard.create(str(folder), EdgeConfig(vectors=dense, sparse_vectors=sparse))
    try:
        for batch in batches:
            points = [
                Point(r.id, {"dense": r.dense, "bm25": SparseVector(r.indices, r.values)}, r.payload) for r in batch
            ]
            shard.update(UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.flush()
    finally:
        shard.close()


def by_score(points) -> Ranking:
    """Order by score to five digits, ties by id: the engine adds float32 in an order that varies."""
    found = [(float(f"{point.score:.5g}"), dict(point.payload)) for point in points]
    return sorted(found, key=lambda pair: (-pair[0], pair[1]["chunk_id"]))


def check_embedder(where: str, facts: dict[str, Any], embedder: Embedder) -> None:
    if (facts["embedder"], facts["dim"]) != (embedder.name, embedder.dim):
        raise KyaraError(
            f"{where} was built with {facts['embedder']} ({facts['dim']} dimensions), not with "
            f"{embedder.name} ({embedder.dim}); open it with that embedder or build it again"
        )
