"""What an index is built from: chunks with their vectors, a batch at a time, however many there are."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kyara_utils.knowledge.chunks.chunk import Chunk, passage
from kyara_utils.knowledge.chunks.chunk_rows import read_chunks
from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.knowledge.index import lexical
from kyara_utils.knowledge.index.records import Batch
from kyara_utils.knowledge.vector_store import EVERY, VectorStore, computed, embed_batch
from kyara_utils.runs.manifest import rows_in
from kyara_utils.runs.tables import iter_rows

BATCH = 1024  # chunks read and held at once


@dataclass(frozen=True)
class Passages:
    """`count` chunks, the mean length that BM25 needs, and `batches`, which starts over each time it is called."""

    count: int
    average: float
    batches: Callable[[], Iterator[Batch]]


def held_passages(chunks: Sequence[Chunk], vectors: np.ndarray) -> Passages:
    """Chunks that are in memory with their vectors, [n, dim]."""
    average = lexical.average_length((chunk.passage() for chunk in chunks), len(chunks))
    return Passages(len(chunks), average, lambda: iter([(chunks, vectors)]))


def stored_passages(
    path: Path, embedder: Embedder, store: VectorStore, progress: bool = True, engine: str = "local"
) -> Passages:
    """The chunks of a table. Vectors are computed as they are asked for, and only where `store` has none.

    engine: who computes them, see `runs.engine`.
    """
    count = rows_in(path) or 0
    texts = (passage(**row) for row in iter_rows(path, ["title", "heading", "text"]))

    def batches() -> Iterator[Batch]:
        with tqdm(total=count, desc="embed and index", mininterval=EVERY, disable=not progress, ascii=True) as bar:
            found = _computed(path, embedder, store, engine) if engine != "local" else read_chunks(path, BATCH)
            for chunks in found:
                yield chunks, embed_batch(embedder, store, [chunk.passage() for chunk in chunks], bar)

    return Passages(count, lexical.average_length(texts, count), batches)


def _computed(path: Path, embedder: Embedder, store: VectorStore, engine: str) -> Iterator[list[Chunk]]:
    """The chunks of a table whose vectors the store has by then, `BATCH` at a time."""
    held: deque[list[Chunk]] = deque()

    def texts() -> Iterator[list[str]]:
        for chunks in read_chunks(path, BATCH):
            held.append(chunks)
            yield [chunk.passage() for chunk in chunks]

    for _ in computed(embedder, store, texts(), engine):
        yield held.popleft()
