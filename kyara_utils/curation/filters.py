"""The way of the rows through the filters of step 04, with the account of what each filter took.

Rows in = rows out + rejects, at every stage and for every source; the notebook only names the filters.
"""

import json
import logging
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from kyara_utils.curation.rows import asked, score
from kyara_utils.runs.funnel import Funnel
from kyara_utils.runs.schemas import CONVERSATION, extend
from kyara_utils.runs.stored_rows import only, picked
from kyara_utils.runs.tables import Row, answer, question

Filter = Callable[[Sequence[Row]], tuple[Sequence[Row], list[Row]]]
CURATED = extend(CONVERSATION, tags=list[str], score=float, scores=str, tokens=int, answer_tokens=int, selection=str)
SHOWN = 60  # characters of a turn in an example
log = logging.getLogger(__name__)


class Filters:
    """Rows, rejects and funnel. Of stored rows (`runs.stored_rows`) only the rejects are held, some 2 kB each."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows, self.rejects, self.incoming, self.funnel = rows, [], len(rows), Funnel()

    def unread(self, read: Sequence[Row], rejects: list[Row]) -> None:
        """Enter rows of open sets that were `read` (they are among the rows) and those that could not be."""
        sources = (json.loads(item["row"]) for item in rejects)
        if len(read) or rejects:
            readable = only(read, "source")
            self.funnel.add("read", chain(readable, sources), readable, rejects)
        self.rejects, self.incoming = self.rejects + rejects, self.incoming + len(rejects)

    def apply(self, stage: str, keep: Filter) -> list[Row]:
        """Keep the rows that a filter keeps, enter its rejects under `stage` and return them."""
        kept, rejects = keep(self.rows)
        self.funnel.add(stage, only(self.rows, "source"), only(kept, "source"), rejects)
        log.info("%s: %d of %d rows kept", stage, len(kept), len(self.rows))
        self.rows, self.rejects = kept, self.rejects + rejects
        return rejects

    def rule_lines(self) -> list[str]:
        """What each rule removed so far, a line each, for people."""
        return [
            f"{entry['rows']:4} {entry['source']:9} {entry['stage']}: {entry['rule']}" for entry in self.funnel.rules()
        ]

    def examples(self) -> list[str]:
        """One reject of each rule: rule, finding, question and answer, shortened; a row may have any turns, or none."""
        last = {item["rule"]: item for item in self.rejects}
        return [f"{item['rule']} ({item['detail'][:40]})\n{_shown(json.loads(item['row']))}" for item in last.values()]

    def check(self) -> None:
        """Raise AssertionError unless nothing disappeared, stage by stage and in all."""
        self.funnel.check()
        out = len(self.rows) + len(self.rejects)
        if self.incoming != out:
            raise AssertionError(f"{self.incoming} rows came in, {out} are kept or rejected")


def _shown(row: Row) -> str:
    if "messages" not in row:
        return f"  {json.dumps(row.get('item'), ensure_ascii=False)[: 2 * SHOWN]}"
    return "\n".join(f"  {' '.join(text.split())[:SHOWN]}" for text in (question(row), answer(row)))


def passage(row: Row) -> str:
    """The text by which a row is compared with others in meaning: its question and the start of its last answer."""
    return f"{asked(row)}\n{row['messages'][-1]['content'][:120]}"


def written_rows(documents: dict[str, Any], maths: dict[str, Any]) -> list[Row]:
    """Return the funnel's stage `written`, from the manifests of steps 02 and 03: drafts begun and rows written."""
    tried = {name: tuple(pair) for name, pair in documents["metrics"]["written"].items()}
    tried |= {"math": (maths["counts"]["in"], maths["counts"]["out"])}
    return [{"stage": "written", "source": name, "rows_in": n, "rows_out": out} for name, (n, out) in tried.items()]


def ranked_lines(rows: Sequence[Row], best: int = 3, worst: int = 2) -> list[str]:
    """The best and worst rows by score, a line each: score, tags, question and the start of the answer."""
    scores = [score(row) for row in only(rows, "score")]
    ranked = sorted(range(len(scores)), key=lambda at: -scores[at])
    shown = picked(rows, ranked[:best] + ranked[max(best, len(ranked) - worst) :][::-1])
    return [
        f"{score(row):+.2f} {row['tags']} {question(row)[:SHOWN]} → {answer(row)[:SHOWN]}…".replace("\n", " ")
        for row in shown
    ]
