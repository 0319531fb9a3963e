"""Rows on disk that read like a list: an Arrow file mapped into memory, of which what is asked for becomes dicts.

A row as a dict takes several times its text. The functions here take stored rows and lists alike and return what they
were given, so that a filter that is right on a list is right on millions of rows.
"""

import errno
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import BATCH, Row

if TYPE_CHECKING:
    import pyarrow as pa

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota, largest file


class StoredRows(Sequence[Row]):
    """The rows at some places of the file, with further columns held in memory; a slice is a list of rows."""

    def __init__(
        self, batches: "list[pa.RecordBatch]", places: np.ndarray, columns: dict[str, Sequence[Any]], folder: object
    ) -> None:
        """batches: `BATCH` rows each; places: int64 [n]; folder: what goes with the last rows that need it."""
        self._batches, self._places, self._columns, self._folder = batches, places, columns, folder

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: Any) -> Any:
        found = range(len(self))[key]
        return self.picked(found) if isinstance(key, slice) else self.picked([found])[0]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), BATCH):
            yield from self[start : start + BATCH]

    def picked(self, positions: Sequence[int]) -> list[Row]:
        """The rows at `positions`, in that order; each batch of the file is asked once."""
        batch, within = np.divmod(self._places[np.asarray(positions, np.int64)], BATCH)
        order, found = np.argsort(batch, kind="stable"), []
        for part in np.split(order, np.flatnonzero(np.diff(batch[order])) + 1) if len(order) else ():
            found += self._batches[batch[part[0]]].take(within[part]).to_pylist()
        rows = [found[at] for at in np.argsort(order, kind="stable")]
        for name, values in self._columns.items():
            for row, position in zip(rows, positions, strict=True):
                row[name] = values[position]
        return rows

    def taken(self, positions: Sequence[int]) -> "StoredRows":
        columns = {name: [values[position] for position in positions] for name, values in self._columns.items()}
        places = self._places[np.asarray(positions, np.int64)]
        return StoredRows(self._batches, places, columns, self._folder)

    def having(self, columns: dict[str, Sequence[Any]]) -> "StoredRows":
        return StoredRows(self._batches, self._places, self._columns | columns, self._folder)

    def only(self, names: Sequence[str]) -> "StoredRows":
        batches = [batch.select([name for name in batch.schema.names if name in names]) for batch in self._batches]
        columns = {name: values for name, values in self._columns.items() if name in names}
        return StoredRows(batches, self._places, columns, self._folder)


def stored(rows: Iterable[Row], schema: "pa.Schema") -> StoredRows:
    """Write rows to a temporary file, a batch in memory at a time.

    Raises `KyaraError` for a column that the schema lacks, and where the system's folder for such files has no room;
    then nothing is left there.
    """
    import pyarrow as pa

    with ExitStack() as undone:
        with _room():
            folder = TemporaryDirectory(prefix="rows_", ignore_cleanup_errors=True)
        undone.callback(folder.cleanup)
        path = str(Path(folder.name) / "rows.arrow")
        with _room(FULL):
            count = _write(rows, schema, path)
        file = pa.ipc.open_file(pa.memory_map(path))
        batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        undone.pop_all()
    return StoredRows(batches, np.arange(count), {}, folder)


def _write(rows: Iterable[Row], schema: "pa.Schema", path: str) -> int:
    import pyarrow as pa

    count, rows = 0, iter(rows)
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as out:
        while part := list(islice(rows, BATCH)):
            if unknown := set().union(*part) - set(schema.names):
                raise KyaraError(f"a row has column {sorted(unknown)[0]}, which its schema lacks; add it there")
            out.write_batch(pa.RecordBatch.from_pylist(part, schema))
            count += len(part)
    return count


@contextmanager
def _room(errors: Collection[int] = ()) -> Iterator[None]:
    """What the disk of temporary files refuses, as one line with the mend; with `errors` none but these, since the rows
    may come from other files."""
    try:
        yield
    except OSError as error:
        if errors and error.errno not in errors:
            raise
        why = str(error.strerror or error).splitlines()[0]
        raise KyaraError(
            f"cannot keep the rows in {tempfile.tempdir or 'the folder for temporary files'} ({why}), which must hold "
            "all their text; free it, or set TMPDIR to a folder with more room and rerun"
        ) from error


def picked(rows: Sequence[Row], positions: Sequence[int]) -> list[Row]:
    """The rows at `positions` as a list, in that order."""
    return rows.picked(positions) if isinstance(rows, StoredRows) else [rows[position] for position in positions]


def taken(rows: Sequence[Row], positions: Sequence[int]) -> Sequence[Row]:
    """Only the rows at `positions`."""
    return rows.taken(positions) if isinstance(rows, StoredRows) else [rows[position] for position in positions]


def having(rows: Sequence[Row], **columns: Sequence[Any]) -> Sequence[Row]:
    """The rows with these columns, a value for each row; the rows given stay as they are."""
    if isinstance(rows, StoredRows):
        return rows.having(columns)
    return [
        row | dict(zip(columns, values, strict=True))
        for row, values in zip(rows, zip(*columns.values(), strict=True), strict=True)
    ]


def only(rows: Sequence[Row], *names: str) -> Sequence[Row]:
    """The rows with no more than these columns where that spares reading the others."""
    return rows.only(names) if isinstance(rows, StoredRows) else rows
