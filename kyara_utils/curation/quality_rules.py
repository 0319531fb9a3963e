"""The answer rules on conversation rows: every answer of a row must pass them all."""

from collections.abc import Iterable, Sequence

from kyara_utils.curation.rows import STEP, is_math, is_short
from kyara_utils.runs.stored_rows import taken
from kyara_utils.runs.tables import Row, question, reject, turns
from kyara_utils.text.answer_rules import DEFAULT_LIMITS, Answer, Limits, first_broken, known

LONG_ONLY = ("too_short", "truncated", "copies_question")  # a name or a year is short, has no full stop, and is copied


def by_quality(
    rows: Sequence[Row], limits: Limits = DEFAULT_LIMITS, rules: Iterable[str] | None = None
) -> tuple[Sequence[Row], list[Row]]:
    """Keep the rows whose every answer passes the named rules (default: all, in the order of `RULES`).

    Rows are read one by one: any number of them.
    """
    names = known(rules)
    kept, rejects = [], []
    for at, row in enumerate(rows):
        rule, detail = _finding(row, limits, names)
        if rule:
            rejects.append(reject(STEP, rule, row, detail))
        else:
            kept.append(at)
    return taken(rows, kept), rejects


def _finding(row: Row, limits: Limits, names: list[str]) -> tuple[str, str]:
    """The first rule that fires on any answer, rules before answers."""
    asked, lang = question(row), row.get("lang") or "zh-Hant"
    answers = [Answer(text, asked, lang, is_math(row)) for text in turns(row, "assistant") or [""]]
    chosen = [name for name in names if name not in LONG_ONLY] if is_short(row) else names
    found = (first_broken(answer, limits, [name]) for name in chosen for answer in answers)
    return next((item for item in found if item[0]), ("", ""))
