"""Rows of .jsonl, .csv and .parquet files as documents, one row in memory at a time."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from kyara_utils.knowledge.readers.documents import Document, ReaderOptions, SkipDocument, row_documents, skip_row
from kyara_utils.knowledge.readers.encodings import open_text

LONGEST_ROW = 1 << 26  # characters
BATCH = 64  # rows of a Parquet file decoded at once
Items = Iterator[Document | dict[str, Any]]


def read_jsonl(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a JSON Lines file; a bad line becomes a reject row `name#number`."""
    with open_text(path) as file:
        for number, line in _lines(file):
            try:
                row = _parsed(line)
            except SkipDocument as why:
                yield skip_row(f"{name}#{number}", why)
                continue
            yield from row_documents(row, f"{stem} {number}", f"{name}#{number}", options)


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Number the lines that are not blank; of one longer than `LONGEST_ROW` only the first part comes."""
    number = 0
    while line := file.readline(LONGEST_ROW):
        number += 1
        rest = line
        while len(rest) == LONGEST_ROW and not rest.endswith("\n"):
            rest = file.readline(LONGEST_ROW)
        if line.strip():
            yield number, line


def _parsed(line: str) -> Any:
    if len(line) == LONGEST_ROW:
        raise SkipDocument("too_large", f"the line is longer than {LONGEST_ROW} characters")
    try:
        line.encode("utf-8")
        return json.loads(line)
    except UnicodeEncodeError:
        raise SkipDocument("encoding", "the line is not in the encoding of the file") from None
    except (ValueError, RecursionError) as error:
        raise SkipDocument("extraction_failed", f"not JSON: {getattr(error, 'msg', error)}") from error


def read_csv(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a comma-separated file with a head row."""
    csv.field_size_limit(LONGEST_ROW)
    with open_text(path) as file:
        rows = csv.DictReader(file)
        _check_field(rows.fieldnames or [], options)
        number = 0
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise SkipDocument("extraction_failed", f"row {number} and what follows is not CSV: {error}") from error
            yield from row_documents(row, f"{stem} {number}", f"{name}#{number}", options)


def read_parquet(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a Parquet file, reading no column but text and title."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as file:
            known = file.schema_arrow.names
            _check_field(known, options)
            columns = [column for column in dict.fromkeys((options.text_field, "title")) if column in known]
            number = 0
            for batch in file.iter_batches(BATCH, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield from row_documents(row, f"{stem} {number}", f"{name}#{number}", options)
    except pa.ArrowException as error:
        raise SkipDocument("damaged", f"not a Parquet file: {str(error).splitlines()[0]}") from error


def _check_field(known: Any, options: ReaderOptions) -> None:
    if options.text_field not in known:
        found = ", ".join(str(field)[:40] for field in known[:12])
        raise SkipDocument("extraction_failed", f'no column "{options.text_field}" among {found or "none"}')
