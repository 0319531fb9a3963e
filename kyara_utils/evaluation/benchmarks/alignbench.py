"""AlignBench in Traditional and in Simplified Chinese: 683 questions, rated 1 to 10 against a reference."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.benchmark import Judge, Row
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged import alignbench
from kyara_utils.evaluation.judged.rated import Paths, Rated
from kyara_utils.evaluation.published import REGISTRY
from kyara_utils.evaluation.registry import register


@register
class AlignBenchCht(Rated):
    """The questions converted to Traditional Chinese, as the card's own run did."""

    name = "alignbench_cht"
    title = "AlignBench, Traditional Chinese"
    metric = "overall"
    files = tuple(name for name in REGISTRY if name.startswith("alignbench_"))

    def read_questions(self, paths: Paths, roots: Sequence[Path]) -> list[Row]:
        """Rows {question_id, category, subcategory, question, reference}."""
        return read_records(paths["alignbench_questions"])

    def drawn(self, rows: list[Row]) -> list[Row]:
        """Converted by OpenCC."""
        return alignbench.to_traditional(rows)

    def material(self, paths: Paths) -> Any:
        """The benchmark's own prompt and dimensions."""
        return alignbench.load_align_prompts(paths["alignbench_judge"].parent)

    def judge(self, judge: Judge, items: list[Row], answers: Mapping, material: Any, model: str) -> list[Row]:
        """`metric` is the fold of the question's category."""
        rows = alignbench.judge_align(judge.client, items, answers, material, model)
        return [row | {"metric": alignbench.fold_of(row["category"])} for row in rows]

    def averages(self, rows: list[Row]) -> list[Row]:
        """Eight folds and three averages."""
        return alignbench.summarise(rows)


@register
class AlignBenchChs(AlignBenchCht):
    """The questions as they are published."""

    name = "alignbench_chs"
    title = "AlignBench, Simplified Chinese"

    def drawn(self, rows: list[Row]) -> list[Row]:
        """Unchanged."""
        return rows

    def check(self, folder: Path) -> Iterator[Figure]:
        """The averages of published rows, and of the card's table, from their folds."""
        yield from alignbench.check(folder)
