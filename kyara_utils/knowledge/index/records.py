"""A chunk with its vectors, in the one form that the embedded index and the server index both store."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.chunks.compact_table import MIXER, CompactTable
from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.knowledge.index import lexical
from kyara_utils.runs.errors import KyaraError

BATCH = 256  # records in one upsert
FILTERS = ("lang", "topic", "doc_id", "path")  # payload fields that a search can be narrowed by
Batch = tuple[Sequence[Chunk], np.ndarray]  # chunks and their vectors, [n, dim] float32


@dataclass(frozen=True)
class Record:
    """A chunk as both engines store it; the id is the number in the chunk's id. Payload fields cost ingest time."""

    id: int
    dense: list[float]
    indices: list[int]
    values: list[float]
    payload: dict[str, str]


def point_id(chunk_id: str) -> int:
    """The number after `id_`, up to 64 bits, which is what Qdrant takes. Raises `KyaraError` on any other id."""
    try:
        number = int(chunk_id.removeprefix("id_"), 16)
    except ValueError:
        number = -1
    if 0 <= number < 2**64 and chunk_name(number) == chunk_id:
        return number
    raise KyaraError(f"{chunk_id!r} is no chunk id; an id is id_ and 8 to 16 hex digits, as chunk_corpus gives it")


def chunk_name(number: int) -> str:
    """The chunk id of a point id."""
    return f"id_{number:08x}"


def checked(batches: Iterable[Batch], embedder: Embedder) -> Iterator[Batch]:
    """Pass batches on. Raises `KyaraError` unless each chunk has its own id and a vector of this embedder.

    Memory: 30 bytes a chunk, to know the ids again.
    """
    seen = CompactTable()
    for chunks, vectors in batches:
        if vectors.shape != (len(chunks), embedder.dim):
            raise KyaraError(
                f"vectors have shape {vectors.shape}, {len(chunks)} chunks and {embedder.name} need "
                f"({len(chunks)}, {embedder.dim}); embed the chunks again with this embedder"
            )
        if not np.isfinite(vectors).all():
            bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise KyaraError(f"the vector of chunk {chunks[bad].id} is not finite; embed it again")
        for chunk in chunks:
            if seen.add((point_id(chunk.id) + 1) * MIXER % 2**64 or 1) is not None:
                raise KyaraError(f"two chunks have the id {chunk.id}; give each chunk once, as chunk_corpus does")
        yield chunks, vectors


def records(batches: Iterable[Batch], average: float) -> Iterator[list[Record]]:
    """Yield at most `BATCH` records at a time; `average` is BM25's mean length."""
    for chunks, vectors in batches:
        for start in range(0, len(chunks), BATCH):
            dense = vectors[start : start + BATCH].tolist()
            pairs = zip(chunks[start : start + BATCH], dense, strict=True)
            yield [_record(chunk, vector, average) for chunk, vector in pairs]


def _record(chunk: Chunk, vector: list[float], average: float) -> Record:
    payload = {
        "doc_id": chunk.doc_id, "title": chunk.title, "text": chunk.text, "lang": chunk.lang,
        "path": chunk.path, "topic": chunk.topic,
    }  # fmt: skip
    return Record(point_id(chunk.id), vector, *lexical.document_vector(chunk.passage(), average), payload)
