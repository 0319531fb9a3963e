"""Published judge results under a folder: a damaged file is one line that names it, and the others are still heard."""

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import DAMAGE, UNREADABLE, read_records, record_files
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file provokes while it is read or used into a KyaraError that names the file."""
    try:
        yield
    except KyaraError:
        raise
    except (*UNREADABLE, *DAMAGE, csv.Error) as error:
        problem = f"{type(error).__name__}: {error}"[:200]
        raise KyaraError(f"{path} is unreadable ({problem}); fetch it again") from error


def read_table(path: Path) -> list[Row]:
    """Read a small CSV table, all values text; [] when there is none. Raises KyaraError naming a damaged file."""
    path = Path(path)
    if not path.is_file():
        return []
    with reading(path), open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row with too many or too few cells")
    return rows


def check_files(*parts: tuple[Path, Callable[[str, list[Row]], Iterable[Figure]]]) -> Iterator[Figure]:
    """Yield the figures of `check(name, rows)` for every record file of each (folder, check), sorted by name.

    Raises one KyaraError for the damaged files, after the sound ones.
    """
    problems = []
    for (name, path), check in ((file, check) for folder, check in parts for file in record_files(folder)):
        try:
            rows = read_records(path)
            with reading(path):
                figures = list(check(name, rows))
        except KyaraError as error:
            problems.append(str(error))
        else:
            yield from figures
    if problems:
        more = f"; and {len(problems) - 1} more files" if len(problems) > 1 else ""
        raise KyaraError(problems[0] + more)
