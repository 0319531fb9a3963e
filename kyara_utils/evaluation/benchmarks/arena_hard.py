"""Arena-Hard v0.1: each answer against the baseline's in two swapped games, scored by Bradley–Terry."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from kyara_utils.evaluation.benchmark import Judge, Row
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.golden.golden_files import read_records
from kyara_utils.evaluation.judged import arena
from kyara_utils.evaluation.judged.judgment_files import reading
from kyara_utils.evaluation.judged.rated import Paths, Rated, shares
from kyara_utils.evaluation.registry import register


@register
class ArenaHard(Rated):
    """A row's `score` is the share of its two games that the model wins, 0 to 1."""

    name = "arena_hard"
    title = "Chatbot-Arena-Hard"
    licence = "Apache-2.0"
    unit = "%"
    metric = "win_rate"
    files = ("arena_prompt", "arena_questions", "arena_baseline")
    protocol = "greedy answers, against the published baseline"

    def read_questions(self, paths: Paths, roots: Sequence[Path]) -> list[Row]:
        """Rows {question_id, question, baseline} of the questions that the baseline answered."""
        with reading(paths["arena_baseline"]):
            answers = read_records(paths["arena_baseline"])
            given = {row["question_id"]: row["choices"][0]["turns"][0]["content"] for row in answers}
        with reading(paths["arena_questions"]):
            rows = read_records(paths["arena_questions"])
            asked = [(row["question_id"], row["turns"][0]["content"]) for row in rows]
        return [{"question_id": key, "question": text, "baseline": given[key]} for key, text in asked if key in given]

    def material(self, paths: Paths) -> Any:
        """The judge's prompt."""
        return arena.load_arena_prompt(paths["arena_prompt"])

    def judge(self, judge: Judge, items: list[Row], answers: Mapping, material: Any, model: str) -> list[Row]:
        """Two games a question."""
        baseline = {q["question_id"]: q["baseline"] for q in items}
        asked = [{"question_id": q["question_id"], "turns": [{"content": q["question"]}]} for q in items]
        rows = arena.judge_arena(judge.client, asked, baseline, answers, material, model)
        return [row | _of_games(row) | {"category": self.name, "metric": self.metric} for row in rows]

    def averages(self, rows: list[Row]) -> list[Row]:
        """The win rate against the baseline."""
        unscored = sum(row["score"] is None for row in rows)
        found = next(row for row in arena.summarise(rows) if row["model"] != arena.BASELINE)
        counts = {"n": len(rows) - unscored, "unscored": unscored}
        return [shares(self.metric, found, "win_rate", "low", "high") | counts]

    def check(self, folder: Path) -> Iterator[Figure]:
        """Intervals of stored replicates, and published win rates from stored scores."""
        yield from arena.check(folder)


def _of_games(row: Row) -> Row:
    """A question's share of its two games, `>>` counting three times as in the benchmark; None without a verdict."""
    points = {"model_a": 0.0, "tie": 0.5, "model_b": 1.0}
    won = [points[battle["winner"]] for battle in arena.battles_from([row]) for _ in range(battle["weight"])]
    texts = {name: "\n\n".join(game[name] for game in row["games"]) for name in ("judgment", "error")}
    return {"score": fmean(won) if won else None} | texts
