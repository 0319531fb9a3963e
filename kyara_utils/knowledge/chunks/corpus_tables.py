"""Step 01's first pass: documents come in one after the other, chunks and rejects go into their tables.

Nothing of the corpus stays in memory but what recognises repetitions, so its size is limited by the disk.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.chunks.chunk_rows import chunk_row
from kyara_utils.knowledge.chunks.chunking import Item, chunk_corpus
from kyara_utils.knowledge.readers.documents import Document
from kyara_utils.runs.schemas import CHUNK, REJECT
from kyara_utils.runs.tables import RowWriter

EVERY = 5.0  # seconds between two lines of progress


@dataclass
class Counts:
    """What came in and what went out. `items` = `documents` + files and rows that the reader refused."""

    items: int = 0
    documents: int = 0
    chunks: int = 0
    rejects: int = 0  # documents and chunks
    tokens: int = 0  # of the chunks
    lost: dict[str, str] = field(default_factory=dict)  # id → path of documents without chunk or reject row

    def took(self, item: Item) -> None:
        """Count an item of the reader."""
        self.items += 1
        if isinstance(item, Document):
            self.documents += 1
            self.lost[item.id] = item.path

    def made(self, item: Chunk | dict[str, Any]) -> None:
        """Count a chunk or a reject row, whose document is then not lost."""
        if isinstance(item, Chunk):
            self.chunks += 1
            self.tokens += item.tokens
            self.lost.pop(item.doc_id, None)
        else:
            self.rejects += 1
            row = json.loads(item["row"])
            self.lost.pop(row.get("doc_id", row["id"]), None)


def write_corpus(
    items: Iterable[Item],
    folder: Path,
    count_tokens: Callable[[str], int],
    max_tokens: int = 192,
    overlap: int = 0,
    near_duplicate: float = 0.9,
    see: Callable[[str], None] = lambda text: None,
    progress: bool = True,
    engine: str = "local",
) -> Counts:
    """Write `chunks.parquet` and `rejects.parquet` of what `read_corpus` yields to `folder`; see `chunk_corpus`.

    `see` is called with the text of each document. Killed at any moment, no table is left that is not whole.
    engine: where documents are cut, `local`, `local:8` or `ray`; the tables are the same bytes.
    """
    counts = Counts()
    with (
        RowWriter(folder / "chunks.parquet", CHUNK) as chunks,
        RowWriter(folder / "rejects.parquet", REJECT) as rejects,
        tqdm(desc="documents", unit="", mininterval=EVERY, disable=not progress, ascii=True) as bar,
    ):
        read = _watched(items, counts, see, bar)
        for item in chunk_corpus(read, count_tokens, max_tokens, overlap, near_duplicate, engine):
            counts.made(item)
            if isinstance(item, Chunk):
                chunks.add(chunk_row(item))
            else:
                rejects.add(item)
        bar.set_postfix_str(f"{counts.chunks:,} chunks, {counts.rejects:,} rejects")
    return counts


def _watched(items: Iterable[Item], counts: Counts, see: Callable[[str], None], bar: tqdm) -> Iterator[Item]:
    for item in items:
        counts.took(item)
        if isinstance(item, Document):
            see(item.text)
            bar.update()
            bar.set_postfix_str(f"{counts.chunks:,} chunks, {counts.rejects:,} rejects", refresh=False)
        yield item
