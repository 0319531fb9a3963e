"""The Open LLM Leaderboard's six columns; IFEval's verdicts also have a golden check."""

from collections.abc import Iterator
from pathlib import Path

from kyara_utils.evaluation.golden import ifeval_verdicts
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.registry import register
from kyara_utils.evaluation.scored.leaderboard import HarnessTask


class Ifeval(HarnessTask):
    """Verifiable instructions; the stock task, whose checkers are the leaderboard's."""

    def check(self, folder: Path) -> Iterator[Figure]:
        """Our verdict on every instruction against the stored official one."""
        yield from ifeval_verdicts.check(folder)


register(Ifeval("ifeval", "ifeval"))
for column in ("bbh", "math_hard", "gpqa", "musr", "mmlu_pro"):
    register(HarnessTask(column, f"leaderboard_{column}"))
