"""Rows of .json files as documents: an array of objects, objects one after another, or one object that holds them.

An array is read object by object, so that a file larger than memory is no trouble.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from kyara_utils.knowledge.readers.documents import Document, ReaderOptions, SkipDocument, row_documents, skip_row
from kyara_utils.knowledge.readers.encodings import open_text
from kyara_utils.knowledge.readers.row_files import LONGEST_ROW

BLOCK = 1 << 16  # characters read at a time
Items = Iterator[Document | dict[str, Any]]


def read_json(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a JSON file; what follows a syntax error cannot be told apart and is one reject row."""
    number = 0
    with open_text(path) as file:
        try:
            for number, row in enumerate(_rows(file, options.text_field), 1):
                yield from row_documents(row, f"{stem} {number}", f"{name}#{number}", options)
        except SkipDocument as why:
            yield skip_row(f"{name}#{number + 1}", why)


def _rows(file: TextIO, field: str) -> Iterator[Any]:
    """Yield the rows: those of the array, or each value after another, an object of rows opened."""
    values = _Values(file)
    if values.peek() == "[":
        values.skip("[")
        while values.peek() not in ("]", ""):
            yield values.next()
            if values.peek() == ",":
                values.skip(",")
            elif values.peek() != "]":
                raise SkipDocument("extraction_failed", "not JSON: a comma is missing, or the end of the array")
        if not values.peek():
            raise SkipDocument("damaged", "the array breaks off")
        return
    while values.peek():
        yield from _opened(values.next(), field)


def _opened(value: Any, field: str) -> list[Any]:
    """A row as it is; of an object without a text, the objects in its only list or under its names."""
    if not isinstance(value, dict) or field in value:
        return [value]
    lists = [inner for inner in value.values() if isinstance(inner, list) and any(isinstance(i, dict) for i in inner)]
    if len(lists) == 1:
        return lists[0]
    inner = list(value.values())
    return inner if inner and all(isinstance(row, dict) for row in inner) else [value]


class _Values:
    """JSON values out of a stream, with a buffer that grows only as far as the value at hand."""

    def __init__(self, file: TextIO):
        self.file, self.text, self.at = file, "", 0

    def _more(self) -> bool:
        block = self.file.read(max(BLOCK, len(self.text) - self.at))
        self.text, self.at = self.text[self.at :] + block, 0
        return bool(block)

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n\ufeff":
                self.at += 1
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def skip(self, mark: str) -> None:
        self.at += len(mark)

    def next(self) -> Any:
        """Parse the next value. Raises `SkipDocument` where there is none."""
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.text, self.at)
            except RecursionError as error:
                raise SkipDocument("extraction_failed", "JSON nested too deep") from error
            except ValueError as error:
                if len(self.text) - self.at > LONGEST_ROW or not self._more():
                    raise SkipDocument("extraction_failed", f"not JSON: {getattr(error, 'msg', error)}") from error
                continue
            if end == len(self.text) and isinstance(value, (int, float)) and self._more():
                continue  # a number may go on in the next block
            self.at = end
            return value
