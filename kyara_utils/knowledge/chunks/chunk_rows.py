"""Chunks as table rows, and back: what `chunks.parquet` holds and what later steps sample from."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.runs.tables import iter_rows


def chunk_row(chunk: Chunk) -> dict[str, Any]:
    """The row of a chunk, with the columns of `schemas.CHUNK`: its fields and its topic."""
    return asdict(chunk) | {"topic": chunk.topic}


def read_chunks(path: Path, batch: int) -> Iterator[list[Chunk]]:
    """Yield the chunks of a table, `batch` at a time."""
    held: list[Chunk] = []
    for row in iter_rows(path, [field.name for field in fields(Chunk)], batch):
        held.append(Chunk(**row))
        if len(held) == batch:
            yield held
            held = []
    if held:
        yield held
