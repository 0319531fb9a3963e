"""Plain texts and Markdown files, in parts of bounded size, so that a file larger than memory is no trouble."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.knowledge.readers.documents import (
    PART,
    Document,
    ReaderOptions,
    SkipDocument,
    documents,
    dropped_row,
    last_break,
    skip_row,
)
from kyara_utils.knowledge.readers.encodings import open_text
from kyara_utils.knowledge.readers.markdown import read_markdown

Items = Iterator[Document | dict[str, Any]]


def read_text_file(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a plain text; the file's name is their title."""
    for part, text in _parts(path, name):
        yield from _kept(stem, text, part, options)


def read_markdown_file(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a Markdown file and a row for each kind of part that was taken off."""
    title = ""
    for part, text in _parts(path, name):
        try:
            found, text, dropped = read_markdown(text, title or stem)
        except SkipDocument as why:
            yield skip_row(part, why)
            continue
        title = title or found
        yield from _kept(title, text, part, options)
        yield from (dropped_row(part, rule, parts) for rule, parts in dropped.items())


def _parts(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of each part, cut at a line break or sentence end; blank parts after the first are none."""
    number, carried, ended = 0, "", False
    with open_text(path) as file:
        while not ended:
            block = file.read(PART - len(carried))
            text, carried, ended = carried + block, "", not block
            number += 1
            if not ended and len(text) > PART // 2:
                cut = last_break(text)
                text, carried = text[:cut], text[cut:]
            if number == 1 or text.strip():
                yield name if number == 1 else f"{name}#part{number}", text


def _kept(title: str, text: str, name: str, options: ReaderOptions) -> Items:
    """The documents of one part; a bad one must not end the reading of those that follow."""
    try:
        yield from documents(title, text, name, options)
    except SkipDocument as why:
        yield skip_row(name, why)
