"""Golden checks of the answer-scored benchmarks: ZeroEval's five and the exams, from raw outputs to the figure."""

from collections.abc import Iterator
from pathlib import Path

from kyara_utils.evaluation.golden.figures import Figure, failure, not_run
from kyara_utils.evaluation.golden.golden_files import (
    Row,
    compare,
    read_expected,
    read_named,
    read_records,
    record_files,
)
from kyara_utils.evaluation.judged.judgment_files import reading
from kyara_utils.evaluation.scored import exam, zebra, zeroeval
from kyara_utils.runs.errors import KyaraError

PRINTED = 0.005 + 1e-9  # figures printed to two decimals; one item of the largest set is 0.036
PERCENT = {"accuracy": PRINTED, "no_answer": PRINTED, "total": 0.0}
GRID = PERCENT | {name: PRINTED for name in ("cell_accuracy", "small", "medium", "large", "xl")}
SHARE = 5e-7 + 1e-12  # figures printed to six decimals
EXAM = dict.fromkeys(("macro_average", "micro", "macro_category", exam.CARD, *exam.GROUPS), SHARE) | {"total": 0.0}


def check_zeroeval(folder: Path) -> Iterator[Figure]:
    """Re-score `zeroeval/BENCHMARK/MODEL.jsonl[.gz]` against `expected.csv`; a damaged file is a mismatch row."""
    root = Path(folder) / "zeroeval"
    for place in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
        name = f"zeroeval/{place.name}"
        if place.name not in (*zeroeval.BENCHMARKS, zebra.BENCHMARK):
            yield not_run(name, f"no scorer for it; known: {', '.join((*zeroeval.BENCHMARKS, zebra.BENCHMARK))}")
            continue
        try:
            expected = read_expected(place)
        except KyaraError as error:
            yield failure(f"{name} expected.csv", error)
            continue
        for model, path in record_files(place):
            try:
                yield from _zeroeval_figures(place.name, model, path, expected.get(model, {}))
            except KyaraError as error:
                yield failure(f"{name} {model}", error)


def _zeroeval_figures(benchmark: str, model: str, path: Path, expected: Row) -> Iterator[Figure]:
    rows, name = read_records(path), f"zeroeval/{benchmark} {model}"
    with reading(path):
        rows = rows[: int(expected.get("first_rows") or len(rows))]
        if benchmark == zebra.BENCHMARK:
            found, tolerances = zebra.summarise_grids([zebra.score_row(row) for row in rows]), GRID
        else:
            found, tolerances = zeroeval.summarise([zeroeval.score(benchmark, row, model) for row in rows]), PERCENT
    yield from compare(name, expected, found, tolerances, "%")


def check_exams(folder: Path) -> Iterator[Figure]:
    """Re-score `tmmlu/` and `tmmluplus/`: `questions`, one file of responses a model, `expected.csv`."""
    for place in ("tmmlu", "tmmluplus"):
        models = record_files(Path(folder) / place, leave_out=("questions",))
        if not models:
            continue
        try:
            questions = read_named(Path(folder) / place, "questions")
            expected = read_expected(Path(folder) / place)
        except KyaraError as error:
            yield failure(place, error)
            continue
        for model, path in models:
            try:
                responses = read_records(path)
                with reading(path):
                    found = exam.aggregate(exam.score_exam(questions, responses))
                yield from compare(f"{place} {model}", expected.get(model), found, EXAM)
            except KyaraError as error:
                yield failure(f"{place} {model}", error)
