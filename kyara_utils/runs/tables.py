"""Parquet in and out, content-hash ids and the reject row: the shapes every step exchanges (`runs.schemas`)."""

import csv
import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing, sweep

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
BATCH = 4096  # rows of a table in memory at once, and of one row group
BUFFER = 1 << 20  # bytes read at once of each column


def content_id(*parts: str, prefix: str = "id_", n: int = 8) -> str:
    """Return `prefix` + `n` hex digits of BLAKE2b over the parts, so that equal content gets equal ids."""
    digest = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16)
    return prefix + digest.hexdigest()[:n]


def reject(step: str, rule: str, row: Row, detail: str = "") -> Row:
    """Return the row that records why `row` was left out; `row` is kept whole as JSON."""
    body = json.dumps(row, ensure_ascii=False, sort_keys=True, default=str)
    return {"id": row.get("id", content_id(body)), "step": step, "rule": rule, "detail": detail, "row": body}


class RowWriter:
    """Writes rows as Parquet, `BATCH` in memory at a time, so a table larger than memory is no trouble.

    Use as a context manager; the file takes its name when the block ends well, and on an error nothing is left.
    The same rows give the same bytes, however they arrive. `count` is the number of rows taken so far.

        with RowWriter(path, CONVERSATION) as out:
            out.add(row)
    """

    def __init__(self, path: Path, schema: "pa.Schema", batch: int = BATCH) -> None:
        self.path, self.schema, self.count = Path(path), schema, 0
        self._batch, self._rows, self._known = batch, [], frozenset(schema.names)

    def __enter__(self) -> "RowWriter":
        import pyarrow.parquet as pq

        sweep(self.path)
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path))
            self._file = stack.enter_context(pq.ParquetWriter(temporary, self.schema, compression="zstd"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None:
            self._stack.__exit__(*raised)
            return
        with self._stack:
            if self._rows or not self.count:
                self._flush()

    def add(self, row: Row) -> None:
        """Take a row; a column it lacks is null. Raises `KyaraError` for a column the schema lacks or a wrong type."""
        if unknown := row.keys() - self._known:
            raise KyaraError(f"{self.path.name} has no column {sorted(unknown)[0]}; add it to the schema with its type")
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == self._batch:
            self._flush()

    def extend(self, rows: Iterable[Row]) -> None:
        """Take rows, one after the other."""
        for row in rows:
            self.add(row)

    def _flush(self) -> None:
        import pyarrow as pa

        columns = [self._column(pa, field) for field in self.schema]
        self._file.write_table(pa.Table.from_arrays(columns, schema=self.schema))
        self._rows = []

    def _column(self, pa: Any, field: "pa.Field") -> "pa.Array":
        try:
            return pa.array([row.get(field.name) for row in self._rows], field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError) as error:
            why = str(error).splitlines()[0]
            raise KyaraError(f"{self.path.name}: column {field.name} must be {field.type} ({why})") from error


def write_rows(path: Path, rows: Iterable[Row], schema: "pa.Schema") -> Path:
    """Write a table at once through `RowWriter`."""
    with RowWriter(path, schema) as out:
        out.extend(rows)
    return Path(path)


def append_rows(path: Path, rows: Iterable[Row], schema: "pa.Schema") -> Path:
    """Add rows at the end of a table, which is written anew: killed meanwhile, it stays as it was."""
    with RowWriter(path, schema) as out:
        out.extend(iter_rows(path))
        out.extend(rows)
    return Path(path)


def iter_rows(path: Path, columns: Sequence[str] | None = None, batch: int = BATCH) -> Iterator[Row]:
    """Yield the rows of a Parquet table, `batch` in memory at a time; only `columns`, if given, are read.

    Raises `KyaraError` when the file is missing or damaged, or lacks one of `columns`.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=BUFFER) as file:
            if missing := set(columns or ()) - set(file.schema_arrow.names):
                raise KyaraError(f"{path} has no column {sorted(missing)[0]}; rerun the step that writes it")
            for part in file.iter_batches(batch, columns=columns):
                yield from part.to_pylist()
    except (OSError, ValueError) as error:
        raise KyaraError(f"cannot read {path}: {error}; delete it and rerun the step that writes it") from error


def read_rows(path: Path) -> list[Row]:
    """Read a Parquet table whole, for small ones and steps that hold all rows: some 2 kB a row; else `iter_rows`."""
    return list(iter_rows(path))


def write_csv(path: Path, rows: list[Row]) -> Path:
    """Write small tables for people and figures; the header is the union of the rows' keys, in order."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)


def read_csv(path: Path) -> list[Row]:
    """Read a small table; all values are text."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_jsonl(path: Path) -> list[Row]:
    """Read small JSON Lines whole, plain or gzipped, blank lines left out; a bad line is named by its number."""
    rows = []
    for number, line in enumerate(_text(Path(path)).split("\n"), 1):  # U+2028 ends no line
        try:
            rows += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise KyaraError(f"{path}:{number} is not JSON ({error.msg}); correct or remove the line") from error
    return rows


def _text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            return file.read().decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise KyaraError(f"cannot read {path} ({error}); give a whole file in UTF-8") from error


def read_any(path: Path) -> list[Row]:
    """Read a small Parquet or JSON Lines file whole, the latter also gzipped."""
    if not path.is_file():
        raise KyaraError(f"no file {path}; give a .parquet or .jsonl of rows")
    return read_jsonl(path) if path.name.endswith((".jsonl", ".jsonl.gz")) else read_rows(path)


def sample(items: list[Row], n: int, seed: int) -> list[Row]:
    """Return `n` items chosen by seed from a canonical order (all of them for n = 0), in that order."""
    ordered = sorted(items, key=lambda item: item["id"])
    return [ordered[position] for position in _drawn(len(ordered), n, seed)]


def sample_rows(path: Path, n: int, seed: int) -> list[Row]:
    """Return what `sample` chooses of a table whose ids are distinct, without holding it: 100 bytes for each row."""
    ids = sorted(row["id"] for row in iter_rows(path, ["id"]))
    chosen = {ids[position] for position in _drawn(len(ids), n, seed)}
    return sorted((row for row in iter_rows(path) if row["id"] in chosen), key=lambda row: row["id"])


def _drawn(count: int, n: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(count), n)) if 0 < n < count else list(range(count))


def turns(row: Row, role: str) -> list[str]:
    """Return the contents of a conversation's turns with this role, in order."""
    return [message["content"] or "" for message in row["messages"] if message["role"] == role]


def question(row: Row) -> str:
    """Return a conversation's first user turn, or an empty string."""
    return next(iter(turns(row, "user")), "")


def answer(row: Row) -> str:
    """Return a conversation's first assistant turn, which is the answer to its `question`, or an empty string."""
    return next(iter(turns(row, "assistant")), "")


def meta(row: Row) -> Row:
    """Return a row's `meta` as a dict; it is stored as a JSON string."""
    value = row.get("meta") or {}
    return json.loads(value) if isinstance(value, str) else value
