"""MT-Bench: 80 two-turn questions, each answer rated 1 to 10 by a judge."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.benchmark import Judge, Row
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged import mt_bench
from kyara_utils.evaluation.judged.rated import Paths, Rated
from kyara_utils.evaluation.registry import register


@register
class MtBench(Rated):
    """`references` says which questions are judged against a reference answer (see `mt_bench.needs_reference`)."""

    name = "mt_bench"
    title = "MT-Bench"
    licence = "Apache-2.0"
    files = ("mt_bench_prompts", "mt_bench_questions", "mt_bench_references")
    references = "category"

    def read_questions(self, paths: Paths, roots: Sequence[Path]) -> list[Row]:
        """Rows {question_id, category, turns}."""
        return read_records(paths[self.files[1]])

    def material(self, paths: Paths) -> Any:
        """(judge prompts, references)."""
        return mt_bench.load_judge_prompts(paths[self.files[0]]), mt_bench.load_references(paths[self.files[2]])

    def judge(self, judge: Judge, items: list[Row], answers: Mapping, material: Any, model: str) -> list[Row]:
        """Both turns of every question."""
        rows = mt_bench.judge_single(judge.client, items, answers, *material, model, self.references)
        return [row | {"metric": self.metric} for row in rows]

    def averages(self, rows: list[Row]) -> list[Row]:
        """The mean over all scored turns; questions are counted."""
        (found,) = mt_bench.summarise_single(rows)
        unscored = len({row["question_id"] for row in rows if row["score"] is None})
        counts = {"n": len({row["question_id"] for row in rows}) - unscored, "unscored": unscored}
        ends = {"value": found["mean"], "low": found["low"], "high": found["high"]}
        return [{"metric": self.metric} | ends | counts]

    def check(self, folder: Path) -> Iterator[Figure]:
        """Stored scores and winners against those read from the judge's texts."""
        yield from mt_bench.check(folder)
