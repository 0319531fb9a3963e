"""GSM8K: word problems of grade-school mathematics with a whole number for an answer."""

from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored.json_answer import JsonAnswer
from kyara_utils.runs.tables import Row


@register
class Gsm8k(JsonAnswer):
    """The published solutions end in `#### N`."""

    name = "gsm8k"
    title = "GSM8K"
    dataset = "openai/gsm8k"
    config = "main"
    licence = "MIT"
    n = 1319
    golden = "gsm"

    def item(self, row: Row, subject: str) -> Row:
        """The question and the number after ####."""
        answer = str(row["answer"]).rsplit("####", 1)[-1].replace(",", "").strip()
        return {"question": row["question"], "answer": answer}
