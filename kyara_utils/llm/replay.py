"""A ledger as one file to ship: with it every notebook runs again without a key and without a model."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kyara_utils.llm.endpoints import Model, load_models
from kyara_utils.llm.ledger import Call, Ledger
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing

ROWS = 5_000  # calls in memory at once


def export_calls(ledger: Path, target: Path) -> int:
    """Write all calls of a ledger as Parquet (zstd), sorted by key; return their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, count = _existing(ledger), 0
    calls = source.calls()
    try:
        with replacing(Path(target)) as temporary, pq.ParquetWriter(temporary, _schema(), compression="zstd") as writer:
            while rows := list(islice(calls, ROWS)):
                writer.write_table(pa.Table.from_pylist([call._asdict() for call in rows], schema=_schema()))
                count += len(rows)
    finally:
        source.close()
    return count


def import_calls(source: Path, ledger: Path) -> int:
    """Add the calls of an exported file to a ledger, which keeps its own; return how many were new."""
    target = Ledger(ledger)
    before = len(target)
    try:
        for rows in _read(Path(source)):
            target.add(rows)
        return len(target) - before
    finally:
        target.close()


def totals(ledger: Path) -> list[dict[str, Any]]:
    """Per model: calls, tokens, failures, and the cost at the registry's prices ("" for a model without one)."""
    source, models = _existing(ledger), load_models()
    try:
        rows = source.totals()
    finally:
        source.close()
    for row in rows:
        model = models.get(row["model"], Model(row["model"]))
        cost = model.cost(row["prompt_tokens"], row["completion_tokens"])
        row["cost"] = f"${cost:.4f}" if model.price_out else ""
    return rows


def _existing(path: Path) -> Ledger:
    if not Path(path).is_file():
        raise KyaraError(f"no call ledger {path}; run the recipe first, or import one")
    return Ledger(path)


def _schema():
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    return pa.schema([(name, kinds[kind]) for name, kind in Call.__annotations__.items()])


def _read(path: Path) -> Iterator[list[Call]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        if file.schema_arrow.names != list(Call._fields):
            raise KyaraError(f"{path} is no exported ledger: its columns are {', '.join(file.schema_arrow.names)}")
        for part in file.iter_batches(ROWS):
            yield [Call(**row) for row in part.to_pylist()]
    except (OSError, pa.ArrowInvalid) as error:
        raise KyaraError(f"cannot read the exported ledger {path} ({error}); export it again") from error
