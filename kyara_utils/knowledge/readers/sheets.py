"""Rows of .csv and .tsv files as documents; one bad row costs itself alone.

The standard library reads a quotation mark that is never closed as one cell up to the end of the file, and of two
columns of one name the last, both without a word. Here a row is complete when its quotes are; where they never are,
the line that opened them is rejected and reading goes on with the next.
"""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from kyara_utils.knowledge.readers.documents import Document, ReaderOptions, SkipDocument, row_documents, skip_row
from kyara_utils.knowledge.readers.encodings import open_text
from kyara_utils.knowledge.readers.row_files import LONGEST_ROW, check_field

MOST_LINES = 20_000  # of one row; quotes that stay open for longer were meant as something else
DELIMITERS = ",;\t|"
UNCLOSED = "a quotation mark is never closed"
Items = Iterator[Document | dict[str, Any]]


def read_csv(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a table with a head row, its columns parted by commas, semicolons or tabs."""
    csv.field_size_limit(LONGEST_ROW)
    with open_text(path) as file:
        head, delimiter = _head(file, options)
        check_field(head, options)
        if double := [column for column in (options.text_field, "title") if head.count(column) > 1]:
            why = SkipDocument("duplicate_column", f'column "{double[0]}" comes twice, the first is read; rename one')
            yield skip_row(f"{name}#head", why)
        for number, row in enumerate(_rows(file, delimiter), 1):
            label = f"{name}#{number}"
            try:
                yield from row_documents(_named(row, head), f"{stem} {number}", label, options)
            except SkipDocument as why:
                yield skip_row(label, why)


def _head(file: TextIO, options: ReaderOptions) -> tuple[list[str], str]:
    """Column names and the delimiter: the one by which the head has the text's column, else a comma."""
    line = file.readline(LONGEST_ROW)
    for delimiter in DELIMITERS:
        names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
        if options.text_field in names and len(names) > 1:
            return names, delimiter
    return [name.strip() for name in next(csv.reader([line]), [])], ","


def _named(row: list[str] | SkipDocument, head: list[str]) -> dict[str, str]:
    """Cells by column, of two columns of one name the first."""
    if isinstance(row, SkipDocument):
        raise row
    if len(row) > len(head):
        raise SkipDocument("extraction_failed", f"{len(row)} cells under {len(head)} column names; quote the text")
    return dict(reversed(list(zip(head, row, strict=False))))


def _rows(file: TextIO, delimiter: str) -> Iterator[list[str] | SkipDocument]:
    """Yield each row's cells, or why it has none."""
    waiting: deque[str] = deque()  # lines read ahead of a row whose quotes stayed open
    while line := _next_line(file, waiting):
        if not line.strip():
            continue
        row, used = _row(line, file, waiting, delimiter)
        for _ in range(used):
            waiting.popleft()
        yield row


def _next_line(file: TextIO, waiting: deque[str]) -> str:
    return waiting.popleft() if waiting else file.readline(LONGEST_ROW)


def _row(line: str, file: TextIO, waiting: deque[str], delimiter: str) -> tuple[list[str] | SkipDocument, int]:
    """Return the cells of the row that starts with `line`, and how many of the waiting lines belong to it."""
    text, used = line, 0
    while (cells := _cells(text, delimiter, whole=used > 0)) is None:
        while True:  # only a line with a quotation mark can close the row
            if used == len(waiting):
                waiting.append(file.readline(LONGEST_ROW))
            following = waiting[used]
            if not following or used >= MOST_LINES or len(text) > LONGEST_ROW:
                return SkipDocument("extraction_failed", UNCLOSED), 0
            text, used = text + following, used + 1
            if '"' in following:
                break
    return (cells, used) if isinstance(cells, list) else (cells, 0)


def _cells(text: str, delimiter: str, whole: bool) -> list[str] | SkipDocument | None:
    """The cells, None while a quote is open, or the reason; a stray quote in a row of one line is only a character."""
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return None
        if whole:
            return SkipDocument("extraction_failed", UNCLOSED)
    try:
        return next(csv.reader([text], delimiter=delimiter))
    except (csv.Error, StopIteration) as error:
        return SkipDocument("extraction_failed", f"not CSV: {error}")
