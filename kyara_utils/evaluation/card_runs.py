"""Running the answer-scored benchmarks of the card on any backend, from questions to scored items.

Exams are answered by the log-probability of the letter, the others by a JSON answer scored by ZeroEval's rules. The
prompt is worded here, so a score is comparable between our models and near, not equal, to the published protocol.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.backends.backend import calibrated, load_model
from kyara_utils.evaluation.card_scores import is_exam, leaderboard_rows
from kyara_utils.evaluation.registry import BENCHMARKS, load_benchmark
from kyara_utils.evaluation.scored import zebra, zeroeval
from kyara_utils.evaluation.scored.harness import LEADERBOARD, run_harness
from kyara_utils.evaluation.scoring import LETTERS, UNSCORED
from kyara_utils.llm import load_prompt
from kyara_utils.runs import sample

Row = dict[str, Any]
HUB = "hub"
QUESTION_FIELDS = ("question", "code", "input", "puzzle", *LETTERS)
CRUX = "What does this Python call return?\n\n{code}\n\nf({input})"


@dataclass
class CardData:
    """Questions by benchmark, where they come from, and for the others the reason why they are not run."""

    questions: dict[str, list[Row]] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def plan(questions: dict[str, list[Row]], reasons: dict[str, str]) -> str:
    """One line a benchmark: how many items will run, or why none."""
    taken = [f"{name}: {len(items)} items" for name, items in questions.items()]
    return "\n".join([*taken, *(f"{name}: {reason}" for name, reason in reasons.items())])


def load_card_data(data: str, root: Path, limit: int = 0, seed: int = 0) -> CardData:
    """Load every answer-scored benchmark of the registry from the folder `data` (relative to `root`), or for "hub" from
    the Hub.

    `limit` draws that many items by `seed`, 0 takes all; "" looks only where $KYARA_EVAL_DATA points. Reasons name the
    folder as it was given, since they end up in cards.
    """
    found = CardData()
    folder = root / data if data not in ("", HUB) else ""
    for name in [name for name, benchmark in BENCHMARKS.items() if benchmark.reader]:
        loaded = load_benchmark(name, folder, hub=data == HUB)
        if loaded.items is None:
            found.reasons[name] = loaded.reason.replace(str(folder), data) if folder else loaded.reason
        else:
            found.questions[name] = sample(loaded.items, limit, seed)
            found.datasets[name] = loaded.benchmark.hub or name
    if data != HUB:
        found.reasons |= dict.fromkeys(LEADERBOARD, "not run: lm-evaluation-harness takes its data from the Hub")
    return found


def question_text(item: Row) -> str:
    """An item's question with its options, code or puzzle, one per line: what the contamination check looks for."""
    return "\n".join(str(item[name]) for name in QUESTION_FIELDS if name in item)


def run_benchmark(backend: Any, name: str, items: Sequence[Row], model: str, max_tokens: int = 4096) -> list[Row]:
    """Answer and score one benchmark: rows {benchmark, model, id, subject, outcome, strict, lenient, text, …}.

    `outcome` is the protocol's. For exams `lenient` is the outcome after batch calibration of the letters.
    """
    fixed = {"benchmark": name, "model": model}
    if is_exam(name):
        rows = backend.choose(items)
        calibrated_rows = calibrated(items, rows)
        return [
            fixed | row | {"strict": row["outcome"], "lenient": late["outcome"], "text": row["chosen"]}
            for row, late in zip(rows, calibrated_rows, strict=True)
        ]
    prompt = load_prompt("evaluation/json_answer")
    asks = [{"id": item["id"], "messages": prompt.messages(**_ask(name, item))} for item in items]
    responses = backend.generate(asks, max_tokens)
    return [fixed | _scored(name, item, row) for item, row in zip(items, responses, strict=True)]


def _ask(name: str, item: Row) -> dict[str, str]:
    """What the prompt is filled with: the question, and the JSON object that its scorer reads."""
    if name == "zebra_logic":
        _, *columns = item["answer"]["header"]
        houses = {f"House {i}": dict.fromkeys(columns, "...") for i in range(1, len(item["answer"]["rows"]) + 1)}
        return {"question": item["puzzle"], "shape": json.dumps({"reasoning": "...", "solution": houses})}
    answers = {"mmlu_redux": "the letter of the right option", "crux": "the returned Python literal"}
    shape = json.dumps({"reasoning": "...", "answer": answers.get(name, "the final number")})
    if name == "crux":
        return {"question": CRUX.format(code=item["code"], input=item["input"]), "shape": shape}
    options = [f"({letter}) {item[letter]}" for letter in LETTERS if letter in item]
    return {"question": "\n".join([item["question"], *options]), "shape": shape}


def _scored(name: str, item: Row, response: Row) -> Row:
    text = response["text"]
    found = {"strict": UNSCORED, "lenient": UNSCORED} if text is None else _score(name, item, text)
    kept = {"text": text or "", "finish_reason": response["finish_reason"], "reason": response["error"]}
    return {"id": item["id"], "subject": item.get("subject", ""), "outcome": found["strict"]} | kept | found


def _score(name: str, item: Row, text: str) -> Row:
    text = text if len(text) <= zeroeval.LONGEST else ""
    if name == "zebra_logic":
        return zebra.score_grid(text, item["answer"])
    if name == "mmlu_redux":
        # Annotators may name an E or F that the question does not offer; ZeroEval keeps those rows.
        choices = [str(item.get(letter, f"option {letter}")) for letter in "ABCDEF"]
        return zeroeval.score_letter(text, choices, choices["ABCDEF".index(item["answer"])])
    scorer = zeroeval.score_string if name == "crux" else zeroeval.score_number
    return scorer(text, str(item["answer"]))


def run_leaderboard(folder: Path, model: str, limit: int = 0) -> list[Row]:
    """Score rows of the Open LLM Leaderboard's six columns for a transformers folder, through lm-evaluation-harness.

    `limit` takes the first documents of each task, 0 all. Needs the extra `eval` and the Hub (or its cache); raises
    KyaraError without the extra.
    """
    loaded, tokenizer = load_model(folder)
    return leaderboard_rows(run_harness(loaded, tokenizer, ["leaderboard"], limit or None, None, True), model)
