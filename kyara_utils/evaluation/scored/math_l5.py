"""MATH-L5: the hardest level of the MATH problems, with numbers for answers."""

from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored.json_answer import JsonAnswer, plain_item
from kyara_utils.runs.tables import Row


@register
class MathL5(JsonAnswer):
    """Rows are {problem, answer} on the Hub and {question, solution} in other copies."""

    name = "math_l5"
    title = "MATH-L5"
    dataset = "AI-MO/aimo-validation-math-level-5"
    split = "train"
    licence = "unstated"
    n = 721
    golden = "math-l5"

    def item(self, row: Row, subject: str) -> Row:
        """The problem and its answer."""
        return plain_item(row)
