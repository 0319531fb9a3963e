"""Where a row's id stands: every table that a recipe's steps left, searched without holding more than the hits."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kyara_utils.runs.calls import parsed
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

JSON_COLUMNS = ("meta", "verdicts", "row")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error while a table is read into one line with the fix."""
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's own errors are both
        why = " ".join(str(error).split())[:200]
        raise KyaraError(f"cannot read {path}: {why}; delete it and rerun the step that writes it") from error


def tables_of(folder: Path, recipe: str) -> list[Path]:
    """Every step's Parquet tables that have a text column `id`, in the order of the steps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = []
    for path in sorted(folder.glob("*/*.parquet")):
        with reading(path):
            schema = pq.read_schema(path)
        if "id" in schema.names and schema.field("id").type == pa.string():
            found.append(path)
    if not found:
        raise KyaraError(f"recipe {recipe} has no tables in {folder}; run: python -m kyara_utils run {recipe}")
    return found


def rows_where(path: Path, column: str, test: Callable[[Any], Any]) -> list[Row]:
    """Rows whose `column` passes `test` (array to mask), JSON decoded; other columns are only read where one does."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: list[Row] = []
    with reading(path), pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            narrow = file.iter_batches(row_groups=[group], columns=[column])
            if any(pc.any(test(batch[column])).as_py() for batch in narrow):
                for batch in file.iter_batches(1024, row_groups=[group]):
                    found += batch.filter(test(batch[column])).to_pylist()
    return [_decoded(row) for row in found]


def _decoded(row: Row) -> Row:
    row = {name: parsed(value) if name in JSON_COLUMNS else value for name, value in row.items()}
    return row | {"row": _decoded(row["row"])} if isinstance(row.get("row"), dict) else row


def find_places(tables: list[Path], ids: Iterable[str]) -> dict[str, list[Row]]:
    """Every place {step, table, row, rule, detail} where an id stands; a reject's `row` is what was rejected."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(set(ids)), pa.string())
    found: dict[str, list[Row]] = {}
    for path in tables if len(wanted) else ():
        for row in rows_where(path, "id", lambda column: pc.is_in(column, wanted)):
            found.setdefault(row["id"], []).append(place_of(path, row))
    return found


def place_of(path: Path, row: Row) -> Row:
    """One place of a row; where the table holds rejects, what was rejected and by which rule."""
    place = {"step": path.parent.name, "table": path.stem, "rule": "", "detail": "", "row": row}
    if "rule" in row and "row" in row:
        body = row["row"] if isinstance(row["row"], dict) else {"text": row["row"]}
        place |= {"rule": row["rule"] or "no rule named", "detail": row.get("detail") or "", "row": body}
    return place


def resolve_id(tables: list[Path], wanted: str, recipe: str) -> str:
    """The id that `wanted` is, or the only one that it begins; ids that share the longest prefix are neighbours."""
    import pyarrow.parquet as pq

    if find_places(tables, {wanted}):
        return wanted
    ids = sorted({name for path in tables for name in pq.read_table(path, columns=["id"])["id"].to_pylist() if name})
    first = bisect_left(ids, wanted)
    past = bisect_left(ids, wanted + "\U0010ffff")
    if past - first == 1:
        return ids[first]
    near = " ".join(", ".join(ids[first:past][:5] or ids[max(0, first - 2) : first + 2]).split())
    shown = " ".join(wanted.split())[:60]
    if past > first:
        raise KyaraError(f"{past - first} ids of recipe {recipe} begin with {shown}: {near}; give more of it")
    raise KyaraError(f"no row {shown} in recipe {recipe}; near it: {near}; see the column id of the steps' tables")
