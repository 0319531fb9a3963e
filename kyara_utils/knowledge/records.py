"""A chunk with its vectors, in the one form that the embedded index and the server index both store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kyara_utils.knowledge import lexical
from kyara_utils.knowledge.chunking import Chunk
from kyara_utils.knowledge.embedders import Embedder
from kyara_utils.runs.errors import KyaraError

BATCH = 256  # records in one upsert


@dataclass(frozen=True)
class Record:
    """A chunk as both engines store it; the id is the number in the chunk's id."""

    id: int
    dense: list[float]
    indices: list[int]
    values: list[float]
    payload: dict[str, str]


def records(chunks: Sequence[Chunk], vectors: np.ndarray, embedder: Embedder) -> Iterator[list[Record]]:
    """Yield batches of records. Raises `KyaraError` if the vectors do not belong to these chunks."""
    if vectors.shape != (len(chunks), embedder.dim):
        raise KyaraError(
            f"vectors have shape {vectors.shape}, {len(chunks)} chunks and {embedder.name} need "
            f"({len(chunks)}, {embedder.dim}); embed the chunks again with this embedder"
        )
    average = lexical.average_length(chunk.passage() for chunk in chunks)
    for start in range(0, len(chunks), BATCH):
        batch = zip(chunks[start : start + BATCH], vectors[start : start + BATCH], strict=True)
        yield [_record(chunk, vector, average) for chunk, vector in batch]


def _record(chunk: Chunk, vector: np.ndarray, average: float) -> Record:
    payload = {"chunk_id": chunk.id, "doc_id": chunk.doc_id, "title": chunk.title, "text": chunk.text}
    sparse = lexical.document_vector(chunk.passage(), average)
    return Record(int(chunk.id.removeprefix("id_"), 16), vector.tolist(), *sparse, payload)
