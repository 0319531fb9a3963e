"""Bundled miniature: word problems with a number for an answer, read strictly and leniently."""

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.miniature.bundled import Bundled
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scoring import score_maths
from kyara_utils.runs.tables import Row

LONGEST = 100  # tokens


@register
class Maths(Bundled):
    """Models are compared by the lenient rule: the strict one measures the form as well."""

    name = "maths"
    metric = decisive = "lenient"
    outcomes = ("strict", "lenient")
    longest = LONGEST

    def turns(self, item: Row) -> list[str]:
        """The problem and the form that the strict rule reads."""
        return [f"{item['question']}最後請寫「答案是」和數字。"]

    def score(self, item: Row, text: str) -> Row:
        """See `score_maths`."""
        return score_maths(text, item["answer"])

    def obeyed(self, item: Row, text: str) -> list[bool]:
        """The closing 答案是N."""
        return [bool(score_maths(text, item["answer"])["strict_answer"])]

    def summarise(self, rows: list[Row]) -> list[Row]:
        """`strict` and `lenient`."""
        return summary.summarise_maths(rows)
