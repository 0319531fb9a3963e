"""Golden self-check: before any of our scores is believed, published ones are re-derived from published outputs.

`python -m kyara_utils.evaluation.golden [FOLDER]` re-scores every file that a registered benchmark knows in a folder,
prints each figure beside the recomputed one, and exits with 1 on a mismatch, a damaged file, or when nothing was
compared. Without a folder it runs on small fixtures that come with the package.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kyara_utils.evaluation.golden.figures import MISMATCH, OK, Figure, failure
from kyara_utils.evaluation.registry import checks
from kyara_utils.runs.errors import KyaraError

BUNDLED = Path(__file__).resolve().parents[2] / "data" / "golden"
COLUMNS = ("figure", "published", "recomputed", "difference", "tolerance", "status")


def run(folder: Path | str = BUNDLED) -> Iterator[Figure]:
    """Yield every figure that the checks find in `folder`; what stops a check is a mismatch row, never an exception.

    Raises KyaraError when the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KyaraError(f"{folder} is no folder; give one laid out like {BUNDLED.name}/zeroeval/gsm/MODEL.jsonl.gz")
    for name, check in checks().items():
        try:
            yield from check(folder)
        except KyaraError as error:
            yield failure(name, error)
        except Exception as error:  # damaged data can fail anywhere; the other checks must still be heard
            yield failure(name, f"cannot be checked: {error!r}")


def table(figures: list[Figure]) -> list[dict[str, str]]:
    """Return the figures as rows of text {figure, published, recomputed, difference, tolerance, status, note}."""
    return [
        {
            "figure": figure.name, "published": _number(figure.published), "recomputed": _number(figure.recomputed),
            "difference": _number(figure.difference), "tolerance": f"{figure.tolerance:.3g}",
            "status": figure.status, "note": figure.note,
        }
        for figure in figures
    ]  # fmt: skip


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.10g}"


def one_of_each(figures: list[Figure]) -> list[Figure]:
    """The last figure of each kind, a sample for the eye."""
    return list({figure.name.split("/")[0]: figure for figure in figures}.values())


def require(figures: list[Figure], folder: object) -> None:
    """Raise KyaraError, naming the first mismatch, unless the figures pass: no score of ours is believed then."""
    if not passed(figures):
        wrong = next((figure.name for figure in figures if figure.status == MISMATCH), "nothing was compared")
        fix = "run: python -m kyara_utils.evaluation.golden FOLDER"
        raise KyaraError(f"the golden self-check of {folder!r} failed ({wrong}); {fix}")


def passed(figures: list[Figure]) -> bool:
    """True when something was compared and nothing mismatched."""
    counts = Counter(figure.status for figure in figures)
    return counts[OK] > 0 and not counts[MISMATCH]


def summary(figures: list[Figure]) -> str:
    """One line: how many figures of each status."""
    counts = Counter(figure.status for figure in figures)
    return ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "found nothing to check"


def _print(rows: list[dict[str, str]]) -> None:
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in COLUMNS}
    for row in [{column: column for column in COLUMNS} | {"note": ""}, *rows]:
        cells = [row["figure"].ljust(widths["figure"]), *(row[column].rjust(widths[column]) for column in COLUMNS[1:5])]
        print("  ".join([*cells, row["status"], row["note"]]).rstrip())


def main(arguments: list[str]) -> int:
    """Print the table and a summary; 0 when all figures match, 1 otherwise, 2 for wrong arguments."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: python -m kyara_utils.evaluation.golden [FOLDER]", file=sys.stderr)
        return 2
    try:
        figures = list(run(*arguments))
    except KyaraError as error:
        print(error, file=sys.stderr)
        return 1
    if figures:
        _print(table(figures))
    print(summary(figures))
    return 0 if passed(figures) else 1
