"""Golden checks that belong to no benchmark: published judges against people, rewards, and folders without a scorer."""

from collections.abc import Iterator
from pathlib import Path

from kyara_utils.evaluation.golden.answers import check_unread
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.judged import agreement
from kyara_utils.evaluation.registry import benchmarks, register_check
from kyara_utils.evaluation.scored.json_answer import JsonAnswer


def check_zeroeval_folders(folder: Path) -> Iterator[Figure]:
    """Folders of ZeroEval's outputs that no registered benchmark reads."""
    yield from check_unread(folder, {one.golden: one for one in benchmarks().values() if isinstance(one, JsonAnswer)})


register_check("judge_agreement", agreement.check)
register_check("zeroeval", check_zeroeval_folders)
