"""Benchmarks answered by a JSON object and scored by ZeroEval's rules.

The prompt is worded here, so a score is comparable between our models and near, not equal, to the published protocol.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.golden.answer_checks import PERCENT, check_outputs, check_unread
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.question_files import DatasetBenchmark
from kyara_utils.evaluation.registry import benchmarks, register_check
from kyara_utils.evaluation.scored import zeroeval
from kyara_utils.evaluation.scoring import LETTERS
from kyara_utils.llm import load_prompt
from kyara_utils.runs.tables import Row

RULE = "JSON answer, own prompt, greedy"
READ = {"strict": "read by ZeroEval's rules", "lenient": "read wherever it stands"}


class JsonAnswer(DatasetBenchmark):
    """`wanted` says what the object's `answer` holds, `golden` is the folder of its published outputs."""

    metric = "strict"
    outcomes = ("outcome", "strict", "lenient")
    wanted = "the final number"
    golden = ""
    tolerances = PERCENT

    def read(self, text: str, row: Row, model: str = "") -> Row:
        """{strict, lenient, strict_answer, lenient_answer} of one text, for an item or a published row."""
        return zeroeval.score_number(text, str(row["answer"]), model)

    def question(self, item: Row) -> str:
        """The question with its options, as the prompt shows it."""
        return "\n".join([item["question"], *(f"({letter}) {item[letter]}" for letter in LETTERS if letter in item)])

    def shape(self, item: Row) -> Row:
        """The JSON object that is asked for."""
        return {"reasoning": "...", "answer": self.wanted}

    def prompt(self, item: Row) -> list[dict[str, str]]:
        """The question and the object that its scorer reads."""
        shape = json.dumps(self.shape(item))
        return load_prompt("evaluation/json_answer").messages(question=self.question(item), shape=shape)

    def score(self, item: Row, text: str) -> Row:
        """`outcome` is the protocol's, `lenient` reads answers that are there but not in the form asked for."""
        found = self.read(zeroeval.within(text), item)
        return {"outcome": found["strict"]} | found

    def summarise(self, rows: list[Row]) -> list[Row]:
        """`strict` and `lenient`."""
        scores = summary.summarise_maths(rows)
        return [row | {"protocol": f"{RULE}; {READ[row['metric']]}; Wilson; {summary.BAND}"} for row in scores]

    def totals(self, scored: list[Row]) -> dict[str, float]:
        """The protocol's percentages of scored published rows."""
        return zeroeval.summarise(scored)

    def check(self, folder: Path) -> Iterator[Figure]:
        """`zeroeval/<golden>/MODEL.jsonl[.gz]` against its `expected.csv`."""
        yield from check_outputs(folder, f"zeroeval/{self.golden}", self.score_published, self.totals, self.tolerances)

    def score_published(self, row: Row, model: str = "") -> Row:
        """Score one published row {output, answer, …}; an output that is too long is unscored."""
        return self.read(zeroeval.within(zeroeval.output_text(row)), row, model)


def plain_item(row: Row) -> Row:
    """An item of a row with a question (or problem) and an answer (or solution)."""
    question = row["question"] if "question" in row else row["problem"]
    return {"question": str(question), "answer": str(row["answer"] if "answer" in row else row["solution"])}


def check_folders(folder: Path) -> Iterator[Figure]:
    """Folders of ZeroEval's outputs that no registered benchmark reads."""
    yield from check_unread(folder, {one.golden: one for one in benchmarks().values() if isinstance(one, JsonAnswer)})


register_check("zeroeval", check_folders)
