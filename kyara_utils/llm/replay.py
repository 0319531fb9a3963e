"""A ledger as one file to ship: with it every notebook runs again without a key and without a model."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kyara_utils.llm.endpoints import Model, load_models
from kyara_utils.llm.ledger import Call, Ledger
from kyara_utils.runs.env import find_root, live
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing
from kyara_utils.runs.recipes import folder_of

ROWS = 5_000  # calls in memory at once
SHIPPED = "calls.parquet"  # beside a recipe's YAML


class ShippedLedger(Ledger):
    """A run's ledger that takes in the calls of its recipe's shipped file at the first call that it lacks.

    shipped: that file, or None; afterwards the calls are the ledger's own, so a changed prompt asks its calls alone.
    """

    def __init__(self, path: Path, shipped: Path | None):
        super().__init__(path)
        self._shipped = shipped

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the raw response of a call, or None."""
        found = super().get(key)
        if found is not None or self._shipped is None:
            return found
        source, self._shipped = self._shipped, None
        for rows in read_calls(source):
            self.add(rows)
        return super().get(key)


def shipped_calls(recipe: str) -> Path | None:
    """The file of calls that a recipe ships, None where it has none or the run is live."""
    path = folder_of(find_root(), recipe) / SHIPPED
    return path if path.is_file() and not live() else None


def run_ledger(store: Path) -> ShippedLedger:
    """Open a run's ledger, `runs/RECIPE/calls.sqlite`, with what its recipe ships."""
    return ShippedLedger(store, shipped_calls(Path(store).parent.name))


def export_calls(ledger: Path, target: Path) -> int:
    """Write all calls of a ledger as Parquet (zstd), sorted by key; return their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, count = existing_ledger(ledger), 0
    calls = source.calls()
    try:
        with (
            replacing(Path(target)) as temporary,
            pq.ParquetWriter(temporary, call_schema(), compression="zstd") as writer,
        ):
            while rows := list(islice(calls, ROWS)):
                writer.write_table(pa.Table.from_pylist([call._asdict() for call in rows], schema=call_schema()))
                count += len(rows)
    finally:
        source.close()
    return count


def import_calls(source: Path, ledger: Path) -> int:
    """Add the calls of an exported file to a ledger, which keeps its own; return how many were new."""
    target = Ledger(ledger)
    before = len(target)
    try:
        for rows in read_calls(Path(source)):
            target.add(rows)
        return len(target) - before
    finally:
        target.close()


def totals(ledger: Path) -> list[dict[str, Any]]:
    """Per model: calls, tokens, failures, and the cost at the registry's prices ("" for a model without one)."""
    source, models = existing_ledger(ledger), load_models()
    try:
        rows = source.totals()
    finally:
        source.close()
    for row in rows:
        model = models.get(row["model"], Model(row["model"]))
        cost = model.cost(row["prompt_tokens"], row["completion_tokens"])
        row["cost"] = f"${cost:.4f}" if model.price_out else ""
    return rows


def existing_ledger(path: Path) -> Ledger:
    """Open a ledger that must be there."""
    if not Path(path).is_file():
        raise KyaraError(f"no call ledger {path}; run the recipe first, or import one")
    return Ledger(path)


def call_schema():
    """The columns of an exported file: those of `Call`."""
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    return pa.schema([(name, kinds[kind]) for name, kind in Call.__annotations__.items()])


def read_calls(path: Path) -> Iterator[list[Call]]:
    """Yield the calls of an exported file, at most `ROWS` at a time. Raises `KyaraError` on any other file."""
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
