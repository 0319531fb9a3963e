"""Parquet in and out, content-hash ids and the reject row: the shapes every step exchanges (DESIGN §3)."""

import csv
import hashlib
import json
import random
from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing

Row = dict[str, Any]
REJECT_KEYS = ("id", "step", "rule", "detail", "row")


def content_id(*parts: str, prefix: str = "id_", n: int = 8) -> str:
    """Return `prefix` + `n` hex digits of BLAKE2b over the parts, so that equal content gets equal ids."""
    digest = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16)
    return prefix + digest.hexdigest()[:n]


def reject(step: str, rule: str, row: Row, detail: str = "") -> Row:
    """Return the row that records why `row` was left out; `row` is kept whole as JSON."""
    body = json.dumps(row, ensure_ascii=False, sort_keys=True, default=str)
    return {"id": row.get("id", content_id(body)), "step": step, "rule": rule, "detail": detail, "row": body}


def write_rows(path: Path, rows: list[Row], columns: tuple[str, ...] = ()) -> Path:
    """Write rows as Parquet under a temporary name, then rename, so a half-written file never has the final name.

    `columns` fixes the schema of an empty table (all strings); otherwise it is inferred from the rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rows:
        table = pa.Table.from_pylist(rows)
    else:
        table = pa.table({name: pa.array([], pa.string()) for name in columns or ("id",)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return Path(path)


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


def read_rows(path: Path) -> list[Row]:
    """Read a Parquet table as a list of dicts; a damaged or missing file is a `KyaraError`."""
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise KyaraError(f"cannot read {path}: {error}; delete it and rerun the step that writes it") from error


def read_jsonl(path: Path) -> list[Row]:
    """Read JSON Lines; a bad line is named by its number."""
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise KyaraError(f"{path}:{number} is not JSON ({error.msg}); correct or remove the line") from error
    return rows


def read_any(path: Path) -> list[Row]:
    """Read rows of a Parquet or JSON Lines file."""
    if not path.is_file():
        raise KyaraError(f"no file {path}; give a .parquet or .jsonl of rows")
    return read_jsonl(path) if path.suffix == ".jsonl" else read_rows(path)


def sample(items: list[Row], n: int, seed: int) -> list[Row]:
    """Return `n` items chosen by seed from a canonical order (all of them for n = 0), in that order."""
    ordered = sorted(items, key=lambda item: item["id"])
    if not 0 < n < len(ordered):
        return ordered
    chosen = sorted(random.Random(seed).sample(range(len(ordered)), n))
    return [ordered[position] for position in chosen]


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
