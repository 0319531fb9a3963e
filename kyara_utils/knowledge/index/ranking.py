"""What every index shares: hybrid search, dense and BM25 fused by rank, and updates by content.

Fusion is done here and not in the engine, so that both engines rank alike and ties break by id.
Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion" (SIGIR 2009), with their constant 60.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.knowledge.index import lexical
from kyara_utils.knowledge.index.edge import Scored, Where
from kyara_utils.knowledge.index.records import FILTERS, Record, checked, chunk_name, point_id, records
from kyara_utils.runs.errors import KyaraError

RRF_K = 60
DEPTH = 4  # candidates of each retriever for one fused hit
MAX_TIED = 1024  # candidates after which a tie is left as the engine cut it
GROUP = 1000  # documents in one deletion
TOGETHER = 64  # questions embedded and asked at once
T = TypeVar("T", int, str)
Mode = Literal["hybrid", "dense", "bm25"]
Query = tuple[str, Any]  # ("dense", [dim]) or ("bm25", (indices, values))


@dataclass(frozen=True)
class Hit:
    """A found chunk; `score` is a cosine, a BM25 score or a fused rank score, by the mode of the search."""

    chunk_id: str
    score: float
    title: str
    text: str
    doc_id: str


class Index(ABC):
    """What every engine shares: search, and updates that leave each chunk in the index once."""

    embedder: Embedder
    average: float  # BM25's mean length, of the chunks it was built from; updates keep it

    def search(
        self,
        text: str,
        k: int = 5,
        mode: Mode = "hybrid",
        where: Where | None = None,
        vector: np.ndarray | None = None,
    ) -> list[Hit]:
        """Return the `k` best chunks for a question, best first; for several questions `search_many` costs less.

        `where` narrows by payload, {"lang" | "topic" | "doc_id" | "path": value or values}; `vector` is the
        question's, [dim], where it is known already. Raises `KyaraError` on an unknown mode or field.
        """
        return self.search_many([text], k, mode, where, None if vector is None else np.asarray(vector)[None])[0]

    def search_many(
        self,
        texts: Sequence[str],
        k: int = 5,
        mode: Mode = "hybrid",
        where: Where | None = None,
        vectors: np.ndarray | None = None,
    ) -> list[list[Hit]]:
        """Return what `search` returns for each question, embedding and asking `TOGETHER` questions at a time.

        `vectors`, [n, dim], are those of the questions where they are known already.
        """
        if mode not in ("hybrid", "dense", "bm25"):
            raise KyaraError(f"unknown search mode {mode!r}; use hybrid, dense or bm25")
        if unknown := set(where or {}) - set(FILTERS):
            raise KyaraError(f"cannot filter by {', '.join(sorted(unknown))}; use {', '.join(FILTERS)}")
        found: list[list[Hit]] = [[] for _ in texts]
        asked = [at for at, text in enumerate(texts) if k > 0 and text.strip()]
        for start in range(0, len(asked), TOGETHER):
            group = asked[start : start + TOGETHER]
            known = None if vectors is None else vectors[group]
            for at, hits in zip(group, self._search([texts[at] for at in group], k, mode, where, known), strict=True):
                found[at] = hits
        return found

    def _search(
        self, texts: list[str], k: int, mode: Mode, where: Where | None, vectors: np.ndarray | None
    ) -> list[list[Hit]]:
        queries = self._queries(texts, mode, vectors)
        depth = k * DEPTH if mode == "hybrid" else k
        flat = [query for one in queries for query in one]
        rankings = iter(settled(lambda chosen, n: self._rank(chosen, n, where or {}), flat, depth) if flat else [])
        return self._hits([_merged([next(rankings) for _ in one], mode)[:k] for one in queries])

    def hits(self, found: Sequence[Sequence[tuple[float, str]]]) -> list[list[Hit]]:
        """Return hits for lists of (score, chunk id), in their order; every chunk must be in the index."""
        return self._hits([[(score, point_id(name)) for score, name in one] for one in found])

    def _hits(self, ranked: Sequence[Scored]) -> list[list[Hit]]:
        points = sorted({point for one in ranked for _, point in one})
        payloads = self._payloads(points) if points else {}
        return [[_hit(score, point, payloads[point]) for score, point in one] for one in ranked]

    def _queries(self, texts: list[str], mode: Mode, vectors: np.ndarray | None) -> list[list[Query]]:
        """What the engine is asked for each question: a dense vector, sparse terms where it has any, or both."""
        found: list[list[Query]] = [[] for _ in texts]
        if mode != "bm25":
            vectors = self.embedder.queries(texts) if vectors is None else vectors
            for one, vector in zip(found, np.asarray(vectors, dtype=np.float32).tolist(), strict=True):
                one.append(("dense", vector))
        if mode != "dense":
            for one, sparse in zip(found, map(lexical.query_vector, texts), strict=True):
                one += [("bm25", sparse)] if sparse[0] else []
        return found

    def upsert(self, chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
        """Add chunks, or replace those with the same id; good for what fits in memory.

        Killed at any moment, the index stays whole and running it again completes it.
        """
        self._write(records(list(checked([(chunks, vectors)], self.embedder)), self.average))

    def update_documents(self, chunks: Sequence[Chunk], vectors: np.ndarray, paths: Iterable[str] = ()) -> int:
        """Upsert the chunks of whole documents and remove the chunks that those documents no longer have.

        With their `paths`, documents are known by path, since their ids change with their content; without, by id.
        The new chunks come first, so that no reader misses both. Returns the number of chunks removed.
        """
        self.upsert(chunks, vectors)
        paths, keep = list(paths), [point_id(chunk.id) for chunk in chunks]
        return self._delete_all("path" if paths else "doc_id", paths or (chunk.doc_id for chunk in chunks), keep)

    def remove(self, doc_ids: Iterable[str]) -> int:
        """Remove all chunks of these documents; return their number."""
        return self._delete_all("doc_id", doc_ids, [])

    def _delete_all(self, field: str, names: Iterable[str], keep: Sequence[int]) -> int:
        ordered = sorted(set(names))
        groups = [ordered[start : start + GROUP] for start in range(0, len(ordered), GROUP)]
        return sum(self._delete({field: group}, keep) for group in groups)

    @abstractmethod
    def _rank(self, queries: Sequence[Query], limit: int, where: Where) -> list[Scored]: ...

    @abstractmethod
    def _payloads(self, ids: Sequence[int]) -> dict[int, dict[str, str]]: ...

    @abstractmethod
    def _write(self, batches: Iterator[list[Record]]) -> None: ...

    @abstractmethod
    def _delete(self, where: Where, keep: Sequence[int]) -> int: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _hit(score: float, point: int, payload: dict[str, str]) -> Hit:
    return Hit(chunk_name(point), score, payload["title"], payload["text"], payload["doc_id"])


def settled(rank: Callable[[list[Query], int], list[Scored]], queries: Sequence[Query], limit: int) -> list[Scored]:
    """Rank until each cut falls between two scores: engines cut a tie at random, a rerun would differ."""
    found: list[Scored] = [[] for _ in queries]
    unsettled, wanted = list(range(len(queries))), limit + 1
    while unsettled:
        answers = rank([queries[i] for i in unsettled], wanted)
        for i, answer in zip(unsettled, answers, strict=True):
            found[i] = by_score(answer)
        unsettled = [i for i in unsettled if wanted <= MAX_TIED and _tied(found[i], limit, wanted)]
        wanted *= 2
    return [ranking[:limit] for ranking in found]


def _tied(ranking: Scored, limit: int, wanted: int) -> bool:
    return len(ranking) == wanted and ranking[-1][0] >= ranking[limit - 1][0]


def by_score(answer: Scored) -> Scored:
    """Order by score to five digits, ties by id: the engine adds float32 in an order that varies."""
    return sorted(((float(f"{score:.5g}"), point) for score, point in answer), key=_best_first)


def _merged(rankings: Sequence[Scored], mode: Mode) -> Scored:
    if mode == "hybrid":
        return fuse([[point for _, point in ranking] for ranking in rankings])
    return [hit for ranking in rankings for hit in ranking]


def fuse(rankings: Iterable[Iterable[T]]) -> list[tuple[float, T]]:
    """Reciprocal rank fusion: (sum of 1 / (60 + rank), item) over rankings of ids, best first, equal sums by id."""
    scores: dict[T, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (RRF_K + rank)
    return sorted(((score, item) for item, score in scores.items()), key=_best_first)


def _best_first(scored: tuple[float, T]) -> tuple[float, T]:
    return -scored[0], scored[1]


def check_embedder(where: str, facts: dict[str, Any], embedder: Embedder) -> None:
    """Raise `KyaraError` unless the index was built with this embedder."""
    if (facts["embedder"], facts["dim"]) != (embedder.name, embedder.dim):
        raise KyaraError(
            f"{where} was built with {facts['embedder']} ({facts['dim']} dimensions), not with "
            f"{embedder.name} ({embedder.dim}); open it with that embedder or build it again"
        )
