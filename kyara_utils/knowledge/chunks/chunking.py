"""Cut documents into passages that fit an embedder and can be cited by id.

Structure comes first: a chunk never crosses a heading, except where a fragment of fewer than 30 tokens joins its
neighbour (`joining.py`), with its headings. Within a section sentences are packed up to a token budget; code blocks
and tables stay whole where they fit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from typing import Any

from kyara_utils.knowledge.chunks.budget import MIN_CHARACTERS
from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.chunks.compact_table import CompactTable
from kyara_utils.knowledge.chunks.packing import pack
from kyara_utils.knowledge.chunks.repeated_passages import drop_near_duplicates
from kyara_utils.knowledge.readers.documents import STEP, Document
from kyara_utils.runs.engine import map_batches
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import content_id, reject
from kyara_utils.text.normalise import count_scripts, language

KEY_BITS = (1 << 64) - 1
BATCH = 1 << 17  # characters of documents that are cut together
Item = Document | dict[str, Any]


def chunk_document(
    doc: Document, count_tokens: Callable[[str], int], max_tokens: int = 192, overlap: int = 0
) -> list[Chunk]:
    """Cut one document; every chunk's text has at most `max_tokens` tokens by `count_tokens`.

    `overlap` repeats up to that many tokens (estimated), in whole sentences, from the chunk before in the same
    section. Without it the chunks' texts, joined, are the document less headings and blank space; only a code
    block or table that alone exceeds the budget is cut, between lines, with its fences or head row repeated.
    """
    return next(iter(_cut([doc], count_tokens, max_tokens, overlap)))


def _cut(
    docs: Sequence[Document], count_tokens: Callable[[str], int], max_tokens: int, overlap: int
) -> Iterator[list[Chunk]]:
    """Yield the chunks of each document; together they cost much less than one by one."""
    _check_budget(count_tokens, max_tokens, overlap)
    packed = pack([doc.text for doc in docs], count_tokens, max_tokens, overlap)
    counts = iter(count_scripts([text for pieces in packed for _, text, _ in pieces]).tolist())
    for doc, pieces in zip(docs, packed, strict=True):
        own = list(islice(counts, len(pieces)))
        whole, _ = language([sum(column) for column in zip(*own, strict=True)] or [0] * 6)
        default = whole if whole.startswith("zh") else "zh-Hant"
        yield [
            Chunk(
                content_id(doc.title, *piece[:2]),
                doc.id,
                doc.title,
                *piece[:2],
                at,
                piece[2],
                *language(row, default),
                doc.path,
            )  # fmt: skip
            for at, (piece, row) in enumerate(zip(pieces, own, strict=True))
        ]


def _check_budget(count_tokens: Callable[[str], int], max_tokens: int, overlap: int) -> None:
    own = count_tokens("")
    if max_tokens < max(16, 2 * own) or not 0 <= overlap < max_tokens:
        raise KyaraError(
            f"max_tokens {max_tokens} and overlap {overlap} do not fit; "
            f"choose max_tokens of at least {max(16, 2 * own)} and a smaller overlap"
        )


def iter_chunks(
    items: Iterable[Item], count_tokens: Callable[[str], int], max_tokens: int = 192, overlap: int = 0,
    engine: str = "local",
) -> Iterator[Chunk | dict[str, Any]]:  # fmt: skip
    """Yield the chunks of what `read_corpus` yields, and reject rows, the reader's included, one document at a time.

    Rejected are exact duplicates of an earlier chunk's text (rule `duplicate`, detail = id of that chunk) and
    fragments that fit no neighbour, or documents of nothing but headings (rule `too_short`). Memory beside the
    document in hand: 40 bytes a chunk. When two different chunks share the first 32 bits of their hash (once in
    100,000 chunks), the later one is hashed again with a salt, so every id is unique and a rerun gives the same.
    engine: where documents are cut (`runs.engine`); what is a duplicate is decided here, in their order.
    """
    texts, ids = CompactTable(), CompactTable()
    cut = partial(_cut_items, count_tokens=count_tokens, max_tokens=max_tokens, overlap=overlap)
    for found in map_batches(cut, _batches(items), engine):
        for item in found:
            yield item if isinstance(item, dict) else _admitted(item, texts, ids)


def _cut_items(
    items: Sequence[Item], count_tokens: Callable[[str], int], max_tokens: int, overlap: int
) -> list[Chunk | dict[str, Any]]:
    """Chunks in place of the documents, a reject row for one without."""
    cut = _cut([item for item in items if isinstance(item, Document)], count_tokens, max_tokens, overlap)
    found: list[Chunk | dict[str, Any]] = []
    for item in items:
        chunks = [item] if isinstance(item, dict) else next(cut)
        found += chunks or [reject(STEP, "too_short", asdict(item), "no text under its headings")]
    return found


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Group items to at least `BATCH` characters of text."""
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item.text) if isinstance(item, Document) else 100
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _admitted(chunk: Chunk, texts: CompactTable, ids: CompactTable) -> Chunk | dict[str, Any]:
    """The chunk under an id of its own, or its reject row."""
    if len(chunk.text) < MIN_CHARACTERS:
        return reject(STEP, "too_short", asdict(chunk), f"{len(chunk.text)} characters")
    key, number, salt = hash(chunk.text) & KEY_BITS | 1, int(chunk.id[3:], 16), 0
    if (witness := texts.add(key, number)) is not None:
        return reject(STEP, "duplicate", asdict(chunk), f"id_{witness:08x}")
    while ids.add(number + 1) is not None:
        salt += 1
        name = content_id(chunk.title, chunk.heading, chunk.text, str(salt))
        number = int(name[3:], 16)
    if not salt:
        return chunk
    texts.set(key, number)
    return replace(chunk, id=name)


def chunk_corpus(
    items: Iterable[Item],
    count_tokens: Callable[[str], int],
    max_tokens: int = 192,
    overlap: int = 0,
    near_duplicate: float = 0.9,
    engine: str = "local",
) -> Iterator[Chunk | dict[str, Any]]:
    """Yield what `iter_chunks` yields, less near-duplicates: what step 01 keeps of what `read_corpus` yields.

    Chunks whose character 5-grams reach Jaccard similarity `near_duplicate` with an earlier chunk's are rejected
    as well (rule `near_duplicate`, with witness), unless their numbers differ; 0 turns that off. With it, memory
    is nearly as large as the text (0.4 kB a chunk): good for some 10 million chunks, without it for ten times as many.
    """
    found = iter_chunks(items, count_tokens, max_tokens, overlap, engine)
    return drop_near_duplicates(found, near_duplicate) if near_duplicate else found
