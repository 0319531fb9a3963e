"""CRUXEval's output prediction: what does a Python call return?"""

from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored import zeroeval
from kyara_utils.evaluation.scored.json_answer import JsonAnswer
from kyara_utils.runs.tables import Row


@register
class Crux(JsonAnswer):
    """The answer is a Python literal and compared as text: no code is run."""

    name = "crux"
    title = "CRUX"
    dataset = "cruxeval-org/cruxeval"
    licence = "MIT"
    n = 800
    wanted = "the returned Python literal"
    golden = "crux"

    def item(self, row: Row, subject: str) -> Row:
        """Code, its input, and the output as the answer."""
        return {"code": row["code"], "input": row["input"], "answer": row["output"]}

    def question(self, item: Row) -> str:
        """The code and the call."""
        return f"What does this Python call return?\n\n{item['code']}\n\nf({item['input']})"

    def read(self, text: str, row: Row, model: str = "") -> Row:
        """The literal without its outer quotes."""
        return zeroeval.score_string(text, str(row["answer"]), model)
