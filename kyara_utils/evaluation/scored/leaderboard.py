"""The Open LLM Leaderboard's six columns, each a benchmark that lm-evaluation-harness asks and scores by itself.

The harness fetches its own documents and needs the model in transformers, so an item here is one of its tasks.
"""

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.benchmark import Benchmark, Judge, Questions, Source
from kyara_utils.evaluation.golden import ifeval_verdicts
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored.harness import leaderboard_scores, normalise, run_harness
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

log = logging.getLogger(__name__)


class HarnessTask(Benchmark):
    """`task` is the harness's name of a task or a group of tasks."""

    metric = "leaderboard"

    def __init__(self, name: str, task: str):
        self.name, self.task, self.dataset = name, task, f"open-llm-leaderboard/{name}"

    def load(self, source: Source) -> Questions:
        """One item, the task; with `limit` its first documents."""
        if not source.hub:
            raise KyaraError("lm-evaluation-harness takes its data from the Hub")
        if find_spec("lm_eval") is None:
            raise KyaraError("the harness is not installed; pip install 'kyara-utils[eval]'")
        return Questions([{"id": self.task, "limit": source.limit}], "hub", "a task of lm-evaluation-harness")

    def ask(self, backend: Any, items: Sequence[Row], max_tokens: int) -> list[Row]:
        """Run the harness in this process; `rows` of a response are those of `run_harness`.

        A task whose data cannot be had leaves its column empty, with a warning: the other benchmarks go on.
        """
        return [{"id": item["id"], "text": None} | self._run(backend, item) for item in items]

    def _run(self, backend: Any, item: Row) -> Row:
        if (loaded := backend.weights()) is None:
            return {"rows": [], "error": "the harness needs the model's transformers folder"}
        try:
            return {"rows": run_harness(*loaded, [item["id"]], item["limit"] or None, None, True), "error": ""}
        except KyaraError as error:
            log.warning("%s: %s", self.name, error)
            return {"rows": [], "error": str(error)}

    def score_all(self, questions: Questions, answers: Mapping[str, Sequence[Row]], judge: Judge | None) -> list[Row]:
        """The harness has scored: one row a subtask."""
        return [
            {"benchmark": self.name, "model": model, "id": row["task"]} | row
            for model, responses in answers.items()
            for response in responses
            for row in response["rows"]
        ]

    def summarise(self, rows: list[Row]) -> list[Row]:
        """The column, normalised as the leaderboard does (a share in [0, 1]), per model."""
        return [self._column(mine, model) for (model,), mine in summary.by(rows, "model").items()]

    def _column(self, rows: list[Row], model: str) -> Row:
        parts = []
        for row in rows:
            value = leaderboard_scores([row])[self.name]
            # IFEval's value is the mean of two levels; its interval is the prompts', moved to that mean.
            shift = value / 100 - row["normalised"] / 100
            ends = {end: normalise(row[end], row["choices"]) / 100 + shift for end in ("low", "high")}
            parts.append({"value": value / 100, "n": row["n"], "unscored": row["unscored"]} | ends)
        how = "lm-evaluation-harness; normalised; MOVER"
        return summary.score_row(self.name, model, self.metric, *summary.mover(parts), how)

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """None: a column is a mean of normalised subtasks, not of documents."""
        return []


class Ifeval(HarnessTask):
    """Verifiable instructions; the stock task, whose checkers are the leaderboard's."""

    check = staticmethod(ifeval_verdicts.check)


register(Ifeval("ifeval", "ifeval"))
for column in ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro"):
    register(HarnessTask(column, f"leaderboard_{column}"))
