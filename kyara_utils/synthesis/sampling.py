"""Which chunks a run writes about: spread over topics and documents, not drawn evenly by chunk.

Drawn by chunk, a corpus speaks through its longest articles: one of 300 chunks is asked 300 times as often as one of a
single chunk. Here every topic gets its turn, in it every document, and in a document every chunk.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from kyara_utils.runs import KyaraError
from kyara_utils.runs.tables import Row

LEAST = 80  # characters of a chunk that says enough to be asked about (four times that in English)


def choose_chunks(
    chunks: Iterable[Row],
    questions: int,
    document_prompts: int,
    each: int = 1,
    seed: int = 0,
    language: str = "zh-Hant",
) -> tuple[list[Row], list[Row], list[Row]]:
    """Return (chunks for `questions` questions, `each` per chunk; chunks for document prompts; all usable ones).

    No chunk is in both of the first two while there are enough. Holds the usable chunks: some 2 kB each, good for a
    million. Raises `KyaraError` when none is usable.
    """
    least = LEAST if language == "zh-Hant" else 4 * LEAST
    usable = sorted((chunk for chunk in chunks if len(chunk["text"]) >= least), key=lambda chunk: chunk["id"])
    if not usable:
        raise KyaraError(f"no chunk has {least} characters or more; index longer documents in 01")
    wanted = -(-questions // each)
    order = list(spread(usable, seed))
    given = order[wanted : wanted + document_prompts]
    return order[:wanted], given, usable


def spread(chunks: Iterable[Row], seed: int) -> Iterator[Row]:
    """Yield all chunks in a seeded order: a chunk of each topic in turn, of another document every time around."""
    picker = random.Random(seed)
    topics: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for chunk in chunks:
        topics[chunk.get("topic") or ""][chunk["doc_id"]].append(chunk)
    return _in_turn([_in_turn(_mixed(documents.values(), picker)) for documents in _mixed(topics.values(), picker)])


def _mixed(groups: Iterable[Any], picker: random.Random) -> list[Any]:
    found = list(groups)
    for group in found:
        if isinstance(group, list):
            picker.shuffle(group)
    picker.shuffle(found)
    return found


def _in_turn(sources: Iterable[Iterable[Row]]) -> Iterator[Row]:
    """One of each source in turn until all are used up."""
    left = [iter(source) for source in sources]
    while left:
        going = []
        for source in left:
            if (item := next(source, None)) is not None:
                yield item
                going.append(source)
        left = going
