"""A bundled set as a benchmark: a few dozen items that every run can afford and that are nobody's benchmark score."""

from collections.abc import Sequence
from typing import Any

from kyara_utils.evaluation.benchmark import Benchmark, Questions, Source
from kyara_utils.evaluation.judged.rated import turns_of
from kyara_utils.evaluation.miniature.items import item_text, load_items
from kyara_utils.runs.tables import Row


class Bundled(Benchmark):
    """`longest` caps the answers' tokens (0: the run's own limit)."""

    miniature = True
    longest = 0

    def load(self, source: Source) -> Questions:
        """The first items of each subject, or of the set where items have none."""
        return Questions(load_items(self.name, source.miniature.get(self.name, 0)))

    def turns(self, item: Row) -> list[str]:
        """What the user says."""
        return turns_of(item)

    def ask(self, backend: Any, items: Sequence[Row], max_tokens: int) -> list[Row]:
        """Greedy answers, turn by turn; a base model answers behind worked examples."""
        asks = [{"id": item["id"], "turns": self.turns(item)} for item in items]
        return backend.converse(asks, self.longest or max_tokens)

    def text(self, item: Row) -> str:
        """Question, options and reference."""
        return item_text(item)
