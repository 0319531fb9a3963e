"""Documents set aside before anything is made from them, so that step 08 can ask about texts that no model has seen."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.readers.documents import Document
from kyara_utils.runs.schemas import DOCUMENT
from kyara_utils.runs.tables import RowWriter

Item = Document | dict[str, Any]
_PART = re.compile(r"#part\d+\Z")  # see `documents`: the parts of a long document stay together


def is_unseen(path: str, share: float) -> bool:
    """Whether the document of this path is set aside. The path decides, so a revised text stays where it was."""
    return int.from_bytes(hashlib.sha256(_PART.sub("", path).encode()).digest()[:4], "big") < share * 2**32


def set_aside(
    items: Iterable[Item], share: float, table: Path, see: Callable[[str], None] = lambda text: None
) -> Iterator[Item]:
    """Yield the items that stay; write the `share` of documents set aside to `table`, which exists when all are read.

    `see` is called with the text of each document set aside: its words belong to the vocabulary of the models that
    will read it.
    """
    with RowWriter(table, DOCUMENT) as unseen:
        for item in items:
            if isinstance(item, Document) and is_unseen(item.path, share):
                unseen.add({"id": item.id, "title": item.title, "text": item.text, "path": item.path})
                see(item.text)
            else:
                yield item
