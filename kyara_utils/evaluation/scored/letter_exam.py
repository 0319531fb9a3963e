"""Exams answered by the log-probability of a letter, averaged as their authors average: over subjects, or over groups
of subjects; models are compared with the same weights."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.backends.letters import calibrated
from kyara_utils.evaluation.benchmark import Judge, Questions
from kyara_utils.evaluation.golden.answer_checks import check_exam
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.question_files import DatasetBenchmark
from kyara_utils.evaluation.scored.exam_subjects import CATEGORY_GROUP, GROUPS, SUBJECT_CATEGORY
from kyara_utils.evaluation.scoring import CORRECT, LETTERS
from kyara_utils.runs.tables import Row
from kyara_utils.stats.intervals import paired_bootstrap

RULE = "letter log-probability, zero-shot"


class LetterExam(DatasetBenchmark):
    """`golden` is the folder of published questions and responses."""

    metric = "macro"
    golden = ""

    def item(self, row: Row, subject: str) -> Row | None:
        """TMMLU+ row {question, A–D, answer}; TMMLU's keep the options inside the question."""
        known = {letter: str(row[letter]) for letter in LETTERS if row.get(letter) is not None}
        subject = row.get("subject") or subject
        item = {"subject": subject, "question": str(row["question"]), "answer": str(row["answer"]).strip(" ()").upper()}
        return item | (known if len(known) == len(LETTERS) else {})

    def ask(self, backend: Any, items: Sequence[Row], max_tokens: int) -> list[Row]:
        """The letters' log-probabilities after the bare question (see `backends.letters`)."""
        return backend.choose(items)

    def score_all(self, questions: Questions, answers: Mapping[str, Sequence[Row]], judge: Judge | None) -> list[Row]:
        """`lenient` is the outcome after batch calibration of the letters."""
        return [
            {"benchmark": self.name, "model": model, **row, "strict": row["outcome"], "lenient": late["outcome"],
             "text": row["chosen"]}
            for model, rows in answers.items()
            for row, late in zip(rows, calibrated(questions.items, rows), strict=True)
        ]  # fmt: skip

    def summarise(self, rows: list[Row]) -> list[Row]:
        """Per model `macro`, the groups where the subjects have any, and `macro, calibrated`."""
        scores = []
        for mine in summary.by(rows, "model").values():
            late = [row | {"outcome": row["lenient"]} for row in mine]
            scores += _macro(mine, RULE)
            scores.append(_macro(late, f"{RULE}, calibrated")[0] | {"metric": "macro, calibrated"})
        return scores

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """A row for each of the averages, named by `metric` and weighted as that average is."""
        found = [
            {"metric": metric} | row
            for metric, part in _averages(rows).items()
            for pair in pairs
            if (row := _weighted(part, *pair, self.decisive))
        ]
        return [{"benchmark": self.name} | row for row in found]

    def check(self, folder: Path) -> Iterator[Figure]:
        """Published responses under every way of averaging."""
        yield from check_exam(folder, self.golden)


def _group(subject: str) -> str:
    return CATEGORY_GROUP.get(SUBJECT_CATEGORY.get(subject.removeprefix("tmmluplus_"), ""), "")


def _macro(rows: list[Row], rule: str) -> list[Row]:
    """`macro` as the exam's authors average: over subjects, in TMMLU+ over four groups of subjects."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_group(row["subject"]), []).append(row)
    if not set(groups) <= set(GROUPS):
        return [_over_subjects(rows, "macro", rule)]
    parts = [_over_subjects(groups[group], group, rule) for group in GROUPS if group in groups]
    how = f"{rule}; mean of {len(parts)} groups, each the mean of its subjects; MOVER"
    first = parts[0]
    return [summary.score_row(first["benchmark"], first["model"], "macro", *summary.mover(parts), how), *parts]


def _over_subjects(rows: list[Row], metric: str, rule: str) -> Row:
    row = summary.summarise_choice([row | {"group": row["subject"]} for row in rows])[0]
    how = f"{rule}; mean over subjects; cluster bootstrap by subject, at least Wilson; {summary.BAND}"
    return row | {"metric": metric, "protocol": how}


def _averages(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows under each average of an exam: `macro`, and TMMLU+'s groups."""
    groups = {group: [row for row in rows if _group(row["subject"]) == group] for group in GROUPS}
    return {"macro": rows} | {group: part for group, part in groups.items() if part}


def _weighted(rows: list[Row], one: str, two: str, outcome: str) -> Row:
    """`summary.compare_shared` with groups and, inside them, subjects weighted alike."""
    if not (found := summary.compare_shared(rows, one, two, outcome)):
        return {}
    scored = [summary.scored_by(rows, model, outcome) for model in (one, two)]
    shared = [key for key in scored[0] if key in scored[1]]
    subjects = [scored[0][key]["subject"] for key in shared]
    weights = _weights(subjects)
    a, b = ([w * (side[key][outcome] == CORRECT) for w, key in zip(weights, shared, strict=True)] for side in scored)
    values = paired_bootstrap(a, b, subjects)
    return found | dict(zip(("difference", "low", "high", "p"), values, strict=True))


def _weights(subjects: list[str]) -> list[float]:
    """Weights of mean 1 under which a plain mean is the mean of groups, each the mean of its subjects."""
    items, groups = Counter(subjects), Counter(_group(subject) for subject in set(subjects))
    return [len(subjects) / (items[s] * groups[_group(s)] * len(groups)) for s in subjects]
