"""Bundled miniature: instructions that a program can verify, after IFEval."""

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.miniature.bundled import Bundled
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scoring import CORRECT, score_instruction
from kyara_utils.runs.tables import Row


@register
class InstructionFollowing(Bundled):
    """An item is right when all its instructions hold."""

    name = "instruction_following"
    metric = "prompt"

    def turns(self, item: Row) -> list[str]:
        """The prompt."""
        return [item["prompt"]]

    def unanswered(self, item: Row) -> Row:
        """Every instruction unscored."""
        return score_instruction(None, item["checks"])

    def score(self, item: Row, text: str) -> Row:
        """See `score_instruction`."""
        return score_instruction(text, item["checks"])

    def obeyed(self, item: Row, text: str) -> list[bool]:
        """Each instruction."""
        return [check == CORRECT for check in score_instruction(text, item["checks"])["checks"]]

    def summarise(self, rows: list[Row]) -> list[Row]:
        """By prompt and by instruction."""
        return summary.summarise_instruction(rows)
