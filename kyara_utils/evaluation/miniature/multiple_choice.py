"""Bundled miniature: multiple choice in Traditional Chinese, answered by the letters' log-probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.backends.letters import calibrated
from kyara_utils.evaluation.benchmark import Judge, Questions
from kyara_utils.evaluation.miniature.bundled import Bundled
from kyara_utils.evaluation.registry import register
from kyara_utils.runs.tables import Row


@register
class MultipleChoice(Bundled):
    """Each letter's mean over the items is subtracted: small models otherwise say one letter whatever is asked."""

    name = "multiple_choice"
    metric = "macro"

    def ask(self, backend: Any, items: Sequence[Row], max_tokens: int) -> list[Row]:
        """The letters after the bare question, for every model alike."""
        return backend.choose(items)

    def score_all(self, questions: Questions, answers: Mapping[str, Sequence[Row]], judge: Judge | None) -> list[Row]:
        """Calibrated outcomes."""
        return [
            {"benchmark": self.name, "model": model, **row}
            for model, rows in answers.items()
            for row in calibrated(questions.items, rows)
        ]

    def summarise(self, rows: list[Row]) -> list[Row]:
        """Mean of the groups' means, and each group."""
        return summary.summarise_choice(rows)
