"""Rows of JSON Lines and Parquet files as documents, one row in memory at a time."""

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
                row = parsed(line)
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


def parsed(line: str) -> Any:
    """Parse one JSON value. Raises `SkipDocument` on anything else."""
    if len(line) == LONGEST_ROW:
        raise SkipDocument("too_large", f"the line is longer than {LONGEST_ROW} characters")
    try:
        line.encode("utf-8")
        return json.loads(line)
    except UnicodeEncodeError:
        raise SkipDocument("encoding", "the line is not in the encoding of the file") from None
    except (ValueError, RecursionError) as error:
        raise SkipDocument("extraction_failed", f"not JSON: {getattr(error, 'msg', error)}") from error


def read_parquet(path: Path, stem: str, name: str, options: ReaderOptions) -> Items:
    """Yield the documents of a Parquet file, reading no column but text and title.

    A value that cannot be read costs its row, a damaged page the rest of its row group.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as file:
            known = file.schema_arrow.names
            check_field(known, options)
            columns = [column for column in dict.fromkeys((options.text_field, "title")) if column in known]
            first = 1
            for group in range(file.num_row_groups):
                yield from _row_group(file, group, columns, first, stem, name, options)
                first += file.metadata.row_group(group).num_rows
    except pa.ArrowException as error:
        raise SkipDocument("damaged", f"not a Parquet file: {str(error).splitlines()[0]}") from error


def _row_group(file: Any, group: int, columns: list[str], first: int, stem: str, name: str, options: Any) -> Items:
    import pyarrow as pa

    number = first
    try:
        for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns):
            values = [_readable(batch.column(column)) for column in columns]
            for at in range(batch.num_rows):
                label, number = f"{name}#{number}", number + 1
                try:
                    row = {column: _value(array[at]) for column, array in zip(columns, values, strict=True)}
                except (ValueError, OverflowError, pa.ArrowException) as error:
                    yield skip_row(label, SkipDocument("encoding", f"a value that cannot be read: {error}"))
                    continue
                yield from row_documents(row, f"{stem} {number - 1}", label, options)
    except (pa.ArrowException, OSError) as error:
        lost = first + file.metadata.row_group(group).num_rows - number
        why = SkipDocument("damaged", f"{lost} rows of row group {group} cannot be read: {str(error).splitlines()[0]}")
        yield skip_row(f"{name}#{number}", why)


def _readable(array: Any) -> Any:
    """Strings as bytes, so that one that is no UTF-8 is found when its own row is read."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kinds = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    return array.cast(kinds[array.type]) if array.type in kinds else array


def _value(scalar: Any) -> Any:
    value = scalar.as_py()
    return value.decode("utf-8") if isinstance(value, bytes) else value


def check_field(known: Any, options: ReaderOptions) -> None:
    """Raise `SkipDocument` where a table has no column for the text."""
    if options.text_field not in known:
        found = ", ".join(str(field)[:40] for field in known[:12])
        raise SkipDocument("extraction_failed", f'no column "{options.text_field}" among {found or "none"}')
