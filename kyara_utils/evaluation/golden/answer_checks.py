"""Golden checks of answer-scored benchmarks, from raw outputs to the published figure."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kyara_utils.evaluation.golden.figures import Figure, failure, not_run
from kyara_utils.evaluation.golden.golden_files import compare, read_expected, read_named, read_records, record_files
from kyara_utils.evaluation.judged.judgment_files import reading
from kyara_utils.evaluation.scored import exam
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

PRINTED = 0.005 + 1e-9  # figures printed to two decimals; one item of the largest set is 0.036
PERCENT = {"accuracy": PRINTED, "no_answer": PRINTED, "total": 0.0}
GRID = PERCENT | {name: PRINTED for name in ("cell_accuracy", "small", "medium", "large", "xl")}
SHARE = 5e-7 + 1e-12  # figures printed to six decimals
EXAM = dict.fromkeys(("macro_average", "micro", "macro_category", exam.CARD, *exam.GROUPS), SHARE) | {"total": 0.0}
Summarise = Callable[[list[Row]], dict[str, float]]


def check_outputs(
    folder: Path, name: str, score: Callable[[Row, str], Row], summarise: Summarise, tolerances: Mapping[str, float]
) -> Iterator[Figure]:
    """Re-score folder/name/MODEL.jsonl[.gz] against its `expected.csv`; a damaged file is a mismatch row.

    `score(row, model)` scores one published row, `summarise` makes the protocol's percentages of them.
    """
    place = Path(folder) / name
    if not place.is_dir():
        return
    try:
        expected = read_expected(place)
    except KyaraError as error:
        yield failure(f"{name} expected.csv", error)
        return
    for model, path in record_files(place):
        try:
            rows, published = read_records(path), expected.get(model, {})
            with reading(path):
                rows = rows[: int(published.get("first_rows") or len(rows))]
                found = summarise([score(row, model) for row in rows])
            yield from compare(f"{name} {model}", published, found, tolerances, "%")
        except KyaraError as error:
            yield failure(f"{name} {model}", error)


def check_exam(folder: Path, name: str) -> Iterator[Figure]:
    """Re-score folder/name: `questions`, one file of responses a model, `expected.csv`."""
    place = Path(folder) / name
    models = record_files(place, leave_out=("questions",))
    if not models:
        return
    try:
        questions, expected = read_named(place, "questions"), read_expected(place)
    except KyaraError as error:
        yield failure(name, error)
        return
    for model, path in models:
        try:
            responses = read_records(path)
            with reading(path):
                found = exam.aggregate(exam.score_exam(questions, responses))
            yield from compare(f"{name} {model}", expected.get(model), found, EXAM)
        except KyaraError as error:
            yield failure(f"{name} {model}", error)


def check_unread(folder: Path, known: Mapping[str, object]) -> Iterator[Figure]:
    """Say which folders of ZeroEval's outputs have no scorer: silence would look like success."""
    root = Path(folder) / "zeroeval"
    for place in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else ():
        if place.name not in known:
            yield not_run(f"zeroeval/{place.name}", f"no scorer for it; known: {', '.join(known)}")
