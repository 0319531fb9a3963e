"""Reading folders of published results: any models, any subset, plain or gzipped; damage is an error with a name."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from math import nan
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

SUFFIXES = (".jsonl.gz", ".jsonl", ".json.gz", ".json")
MOST_BYTES = 512 * 2**20  # after decompression; the largest published file is a hundredth of it
UNREADABLE = (OSError, EOFError, zlib.error, ValueError, RecursionError)  # what reading a damaged file raises
DAMAGE = (KyaraError, KeyError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError)  # and using it


def read_records(path: Path) -> list[Row]:
    """Return the rows of a .jsonl, .jsonl.gz, .json or .json.gz file; at least one, each a JSON object.

    Raises KyaraError that names the file, and the line where there is one, for anything else.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            body = file.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        text = body.decode("utf-8-sig")
        rows = list(_lines(text)) if ".jsonl" in path.suffixes[-2:] else json.loads(text)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise ValueError("no rows, or one that is no JSON object")
    except UNREADABLE as error:
        raise KyaraError(f"{path} is unreadable ({error}); fetch it again") from error
    return rows


def _lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from error


def record_files(folder: Path, leave_out: Iterable[str] = ()) -> list[tuple[str, Path]]:
    """Return (name without suffix, path) of the result files directly in `folder`, sorted; none without a folder."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
        if suffix and path.is_file() and path.name.removesuffix(suffix) not in leave_out:
            found.append((path.name.removesuffix(suffix), path))
    return found


def read_named(folder: Path, name: str) -> list[Row]:
    """Return the rows of `name` with whichever suffix it has; KyaraError when it is absent or damaged."""
    path = dict(record_files(folder)).get(name)
    if path is None:
        raise KyaraError(f"{folder} has no {name}.jsonl or {name}.jsonl.gz; put it beside the results")
    return read_records(path)


def read_expected(folder: Path, key: str = "model") -> dict[str, Row]:
    """Return {model: row} of `expected.csv`, values as text; empty without the file, KyaraError when damaged."""
    path = folder / "expected.csv"
    if not path.is_file():
        return {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return {row[key]: row for row in csv.DictReader(file)}
    except (OSError, ValueError, csv.Error, KeyError) as error:
        raise KyaraError(f"{path} is unreadable ({error}); it needs a header with {key}") from error


def compare(
    name: str, expected: Row | None, found: Mapping[str, float], tolerances: Mapping[str, float], unit: str = ""
) -> Iterator[Figure]:
    """Yield one figure per column of `tolerances` that has a published value.

    Without any, the first column is yielded with the note that nothing is published.
    """
    published = {column: (expected or {}).get(column) for column in tolerances if column in found}
    stated = {column: text for column, text in published.items() if text}
    for column, text in stated.items():
        try:
            value, note = float(text.strip().rstrip("%")), ""
        except ValueError:
            value, note = nan, f"the published value {text[:40]!r} is not a number"
        yield Figure(f"{name} {column}", value, nan if note else found[column], tolerances[column], unit, note)
    if not stated:
        column = next(iter(published))
        yield Figure(f"{name} {column}", nan, found[column], tolerances[column], unit, "no published figure")
