"""MMLU-Redux: MMLU's questions that annotators found sound, or whose wrong key they put right."""

from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored import zeroeval
from kyara_utils.evaluation.scored.json_answer import JsonAnswer
from kyara_utils.evaluation.scoring import LETTERS
from kyara_utils.runs.tables import Row


@register
class MmluRedux(JsonAnswer):
    """As ZeroEval builds it: rows marked `ok`, and wrong keys with the letter given instead."""

    name = "mmlu_redux"
    title = "MMLU-Redux"
    dataset = "yuchenlin/zero-eval"
    config = "mmlu-redux"
    licence = "CC-BY-4.0"
    n = 2778
    wanted = "the letter of the right option"
    golden = "mmlu-redux"

    def item(self, row: Row, subject: str) -> Row | None:
        """ZeroEval's own set {config, choices, correct_answer (a choice's text)} is built already.

        A row whose key is none of the four choices does not take part.
        """
        options = dict(zip(LETTERS, row["choices"], strict=True))
        answer = _key(row, options)
        if answer not in LETTERS:
            return None
        subject = row.get("subject") or row.get("config") or subject
        return {"subject": subject, "question": row["question"], **options, "answer": answer}

    def read(self, text: str, row: Row, model: str = "") -> Row:
        """The letter of the right choice. Annotators may name an E or F that the question does not offer."""
        if "choices" in row:
            return zeroeval.score_letter(text, row["choices"], row["correct_answer"], model)
        choices = [str(row.get(letter, f"option {letter}")) for letter in "ABCDEF"]
        return zeroeval.score_letter(text, choices, choices["ABCDEF".index(row["answer"])], model)


def _key(row: Row, options: Row) -> str:
    fixed = str(row.get("correct_answer") or "").strip()
    if "error_type" not in row:
        return next((letter for letter, text in options.items() if text.strip() == fixed), "")
    if row["error_type"] == "ok":
        return LETTERS[int(row["answer"])]
    return fixed.upper() if row["error_type"] == "wrong_groundtruth" else ""
