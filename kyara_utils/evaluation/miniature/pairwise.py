"""Bundled miniature: open and two-turn questions, model against model, judged in both orders."""

from collections.abc import Mapping, Sequence

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.benchmark import Judge, Questions, Source
from kyara_utils.evaluation.judged.pairs import judge_models
from kyara_utils.evaluation.miniature.bundled import Bundled
from kyara_utils.evaluation.miniature.items import load_items
from kyara_utils.evaluation.registry import register
from kyara_utils.runs.tables import Row

SETS = ("open_questions", "two_turn")


@register
class Pairwise(Bundled):
    """Both sets count together; an item's `set` says which it is of."""

    name = "pairwise"
    metric = ""  # three rates and no headline
    needs_judge = True

    def load(self, source: Source) -> Questions:
        """The first items of each category."""
        return Questions(
            [item | {"set": name} for name in SETS for item in load_items(name, source.miniature.get(name, 0))]
        )

    def score_all(self, questions: Questions, answers: Mapping[str, Sequence[Row]], judge: Judge | None) -> list[Row]:
        """Judged pairs {benchmark, id, category, model_a, model_b, outcome, …} (see `judge_models`).

        Each set apart: a judge's liking for a place is taken out of its margins, and differs with the answers' length.
        """
        rows = []
        for name in SETS:
            items = [item for item in questions.items if item["set"] == name]
            rows += judge_models(judge, items, answers, judge.pairs)
        return [{"benchmark": self.name} | row for row in rows]

    def summarise(self, rows: list[Row]) -> list[Row]:
        """Rates of wins, ties and losses."""
        judges = dict.fromkeys(row["judge"] for row in rows)
        return summary.summarise_pairs(rows, f"{', '.join(judges)}, both orders") if rows else []

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """None: a verdict is a comparison already."""
        return []
