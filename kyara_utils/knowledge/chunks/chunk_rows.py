"""Chunks as table rows, and back: what `chunks.parquet` holds and what later steps sample from."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.readers.folder import Document


def chunk_rows(chunks: Iterable[Chunk], documents: Iterable[Document]) -> list[dict[str, Any]]:
    """Return one row per chunk: its fields, `path` of its document, and `topic`, the first folder of that path.

    Equal documents share an id; the first of them counts as the source.
    """
    paths: dict[str, str] = {}
    for document in documents:
        paths.setdefault(document.id, document.path)
    rows = []
    for chunk in chunks:
        path = paths[chunk.doc_id]
        rows.append(asdict(chunk) | {"path": path, "topic": path.split("/")[0] if "/" in path else ""})
    return rows
