"""What every reader yields: documents of bounded size, or reject rows that say why not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kyara_utils.runs.tables import content_id, reject
from kyara_utils.text.conversion import title_to_reading, to_reading

STEP = "01_corpus_indexing"
MIN_CHARACTERS = 40
PART = 2_000_000  # characters; a longer text becomes several documents, so that memory stays bounded


@dataclass(frozen=True)
class Document:
    """One document; `id` is a content id of title and text, `path` is relative to the source folder."""

    id: str
    title: str
    text: str
    path: str


@dataclass(frozen=True)
class ReaderOptions:
    """How to read: the field that holds the text of a row, and the OpenCC table for reading text ("" for none)."""

    text_field: str = "text"
    convert: str = ""


def document_id(*parts: str) -> str:
    """`doc_` and 16 hex digits: of 32 bits, a million documents would share an id a hundred times."""
    return content_id(*parts, prefix="doc_", n=16)


class SkipDocument(Exception):
    """A file or row that gives no document; args are the rule and the detail of its reject row."""


def skip_row(name: str, why: SkipDocument) -> dict[str, Any]:
    """The reject row of the file or row `name`."""
    rule, detail = why.args
    return reject(STEP, rule, {"id": document_id(name), "path": name}, detail)


def dropped_row(name: str, rule: str, parts: list[str]) -> dict[str, Any]:
    """The row of the parts of a document that are no text of it (footnotes, images …), which are kept in it."""
    row = {"id": document_id(name, rule, *parts), "path": name, "dropped": parts}
    return reject(STEP, rule, row, f"{len(parts)} taken off, the document stays")


def documents(title: str, text: str, name: str, options: ReaderOptions) -> Iterator[Document]:
    """Yield the document, or its parts `name#part2` … where it is longer than `PART`. Raises `SkipDocument`."""
    text = text.strip()
    if len(text) < MIN_CHARACTERS:
        raise SkipDocument("too_short", f"{len(text)} characters, at least {MIN_CHARACTERS} are needed")
    if not (_encodable(title) and _encodable(text)):
        raise SkipDocument("encoding", "the text holds bytes that are not in the encoding of the file")
    title = title_to_reading(title.strip(), text, options.convert)
    for number, part in enumerate(_parts(text), 1):
        part = to_reading(part, options.convert)
        path = name if number == 1 else f"{name}#part{number}"
        yield Document(document_id(title, part), title, part, path)


def row_documents(row: Any, fallback: str, name: str, options: ReaderOptions) -> Iterator[Document | dict[str, Any]]:
    """Yield the documents of one row of a table, or its reject row."""
    try:
        if not isinstance(row, dict) or not isinstance(row.get(options.text_field), str):
            raise SkipDocument("extraction_failed", f'the row has no text in the field "{options.text_field}"')
        yield from documents(str(row.get("title") or "").strip() or fallback, row[options.text_field], name, options)
    except SkipDocument as why:
        yield skip_row(name, why)


def _encodable(text: str) -> bool:
    """A lone surrogate stands for a byte that could not be decoded (PEP 383)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def last_break(text: str) -> int:
    """Position after the last line break or sentence end in the second half of the first `PART` characters."""
    marks = (max(text.rfind(mark, PART // 2, PART) for mark in group) for group in ("\n", "。！？", ". "))
    return next((mark + 1 for mark in marks if mark >= 0), min(PART, len(text)))


def _parts(text: str) -> Iterator[str]:
    while len(text) > PART:
        cut = last_break(text)
        yield text[:cut]
        text = text[cut:]
    yield text
