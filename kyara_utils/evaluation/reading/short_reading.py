"""A question with documents and a short gold answer as a benchmark: how it is asked, scored, averaged and compared.

Models that know turns are asked as the training rows of step 02 ask (`reading_row`), a base model behind worked
examples (`short_answer`), which end an answer at its line. So only the first line counts, for every model alike.
"""

from collections.abc import Sequence
from typing import Any

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.benchmark import Benchmark, Messages
from kyara_utils.evaluation.reading.answer_match import MEASURES, first_line, score_short
from kyara_utils.evaluation.reading.contexts import ALONE, AMONG
from kyara_utils.llm import load_prompt
from kyara_utils.runs.tables import Row

LONGEST = 40  # characters of an answer that keeps to "the shortest words"
NAMES = {"outcome": "exact", "f1": "f1", "folded": "exact folded", "folded_f1": "f1 folded"}
RULE = "first line of a greedy answer, DRCD's rules"


class Reading(Benchmark):
    """Items {id, variant, path, title, documents[{title, text}], question, answers, evidence, unseen}.

    `longest` caps the answers' tokens, `turn` and `shots` name the prompts.
    """

    metric = decisive = "f1"
    outcomes = MEASURES
    longest = 32
    turn, shots = "synthesis/reading_row", "synthesis/short_answer"

    def prompt(self, item: Row) -> Messages:
        """The user's turn, for a chat template."""
        return load_prompt(self.turn).messages(documents=item["documents"], question=item["question"])

    def examples(self, item: Row) -> Messages:
        """Worked examples and the question; documents stand on one line, as theirs do."""
        flat = [document | {"text": " ".join(document["text"].split())} for document in item["documents"]]
        return load_prompt(self.shots).messages(documents=flat, question=item["question"])

    def ask(self, backend: Any, items: Sequence[Row], max_tokens: int) -> list[Row]:
        """Greedy answers, behind worked examples where the backend asks for them."""
        write = self.examples if backend.examples else self.prompt
        stop = load_prompt(self.shots).stop if backend.examples else ()
        return backend.generate([{"id": item["id"], "messages": write(item)} for item in items], self.longest, stop)

    def score(self, item: Row, text: str) -> Row:
        """See `answer_match.score_short`."""
        return score_short(first_line(text), item["answers"])

    def score_all(self, questions: Any, answers: Any, judge: Any) -> list[Row]:
        """Scored rows with the item's `variant`."""
        variants = {item["id"]: item["variant"] for item in questions.items}
        return [row | {"variant": variants[row["id"]]} for row in super().score_all(questions, answers, judge)]

    def summarise(self, rows: list[Row]) -> list[Row]:
        """Exact match and F1, each also folded, of each variant."""
        return [
            self._row(mine, field, variant)
            for (_, variant), mine in summary.by(rows, "model", "variant").items()
            for field in MEASURES
        ]

    def _row(self, rows: list[Row], field: str, variant: str) -> Row:
        average = summary.mean_row if field.endswith("f1") else summary.proportion
        rule = RULE + (", scripts and marks folded" if field.startswith("folded") else "")
        values = [row[field] for row in rows]
        return average(self.name, rows[0]["model"], metric_of(field, variant), values, f"{rule}; {variant}")

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Exact match and F1 of each variant."""
        found = [
            {"metric": metric_of(field, variant)} | row
            for (variant,), mine in summary.by(rows, "variant").items()
            for field in ("outcome", "f1")
            for pair in pairs
            if (row := summary.compare_shared(mine, *pair, field))
        ]
        return [{"benchmark": self.name} | row for row in found]

    def text(self, item: Row) -> str:
        """The question, and the text around its answer."""
        return f"{item['question']}\n{item['evidence']}".strip()

    def seen(self, item: Row) -> bool:
        """Whether the document was not set aside."""
        return not item["unseen"]

    def obeyed(self, item: Row, text: str) -> list[bool]:
        """The shortest words: one line without a full sentence."""
        return [0 < len(text.strip()) <= LONGEST and "\n" not in text.strip()]


def metric_of(field: str, variant: str) -> str:
    """Name of a measure in the tables; that of the document alone has no addition."""
    return NAMES[field] if variant == ALONE else f"{NAMES[field]}, {variant}"


def in_order(items: Sequence[Row]) -> list[Row]:
    """Items by variant and document, so that neighbours share the beginning of their prompt and a server keeps it."""
    return sorted(items, key=lambda item: ((ALONE, AMONG).index(item["variant"]), item["path"], item["id"]))
