"""Asking models the benchmark items: letters by log-likelihood, answers by generation, pairs by a judge.

Every function returns one row per item, so that any number can be traced back to what was said.
"""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from kyara_utils.evaluation.scoring import LETTERS, score_choice, score_instruction, score_maths
from kyara_utils.evaluation.statistics import wilson
from kyara_utils.llm import Client, Request, label_logprobs, load_prompt
from kyara_utils.llm.ask import TOP
from kyara_utils.preference.judge import Pair, judge_pairs

Row = dict[str, Any]
OUTCOMES = {"first": "win", "second": "loss", "tie": "tie", "inconsistent": "tie", "unscored": "unscored"}


def run_choice(client: Client, items: Sequence[Row], model: str) -> list[Row]:
    """Answer multiple choice by the log-probabilities of A–D after `答案:(`, the bare text for every model
    alike.

    Each letter's mean over the items is subtracted (batch calibration, Zhou et al. 2023, arXiv 2309.17249):
    small models otherwise say one letter whatever is asked. Rows {benchmark, model, id, group, subject,
    chosen, outcome, margin}.
    """
    requests = [Request(_choice_text(item), max_tokens=1, top_logprobs=TOP, raw=True) for item in items]
    found = [label_logprobs(response, LETTERS) for response in client.ask(requests, label=f"multiple choice {model}")]
    complete = [letters for letters in found if len(letters) == len(LETTERS)]
    prior = {letter: mean(letters[letter] for letters in complete) for letter in LETTERS} if complete else None
    return [
        {
            "benchmark": "multiple_choice", "model": model, "id": item["id"], "group": item["group"],
            "subject": item["subject"], **score_choice(letters, item["answer"], prior),
        }
        for item, letters in zip(items, found, strict=True)
    ]  # fmt: skip


def _choice_text(item: Row) -> list[dict[str, str]]:
    choices = "\n".join(f"({letter}) {item[letter]}" for letter in LETTERS)
    return [{"role": "user", "content": f"題目:{item['question']}\n{choices}\n答案:("}]


def generate(
    client: Client, conversations: Sequence[list[str]], max_tokens: int = 160, label: str = "", seed: int = 0
) -> list[list[str]]:
    """Answer conversations greedily, turn by turn; `conversations` holds user turns, the result answers, in
    order.

    A base model gets the same worked examples before its first turn as in preference generation.
    """
    few_shot = load_prompt("preference/reply")
    completion = client.model.dialect == "completion"
    answers: list[list[str]] = [[] for _ in conversations]
    for turn in range(max((len(turns) for turns in conversations), default=0)):
        asked = [position for position, turns in enumerate(conversations) if turn < len(turns)]
        requests = []
        for position in asked:
            messages = _history(conversations[position][: turn + 1], answers[position], completion)
            stop = few_shot.stop if completion else ()
            requests.append(Request(messages, max_tokens, 0.0, stop, repeat_penalty=1.1, seed=seed))
        for position, response in zip(asked, client.ask(requests, label=label or client.model.name), strict=True):
            answers[position].append(response.text.strip())
    return answers


def _history(turns: list[str], answers: list[str], completion: bool) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = []
    for position, turn in enumerate(turns):
        if completion and not position:
            messages += load_prompt("preference/reply").messages(prompt=turn)
        else:
            messages.append({"role": "user", "content": f"問:{turn}\n答:" if completion else turn})
        if position < len(answers):
            messages.append({"role": "assistant", "content": answers[position]})
    return messages


def run_maths(client: Client, items: Sequence[Row], model: str) -> list[Row]:
    """Solve word problems; rows {benchmark, model, id, text, strict, lenient, …} (see `score_maths`)."""
    prompts = [[f"{item['question']}最後請寫「答案是」和數字。"] for item in items]
    answers = generate(client, prompts, max_tokens=100, label=f"maths {model}")
    return [
        {
            "benchmark": "maths",
            "model": model,
            "id": item["id"],
            "text": text,
            **score_maths(text, item["answer"]),
        }
        for item, (text,) in zip(items, answers, strict=True)
    ]


def run_instructions(client: Client, items: Sequence[Row], model: str, max_tokens: int = 160) -> list[Row]:
    """Follow verifiable instructions; rows {benchmark, model, id, text, outcome, checks}."""
    answers = generate(client, [[item["prompt"]] for item in items], max_tokens, label=f"instructions {model}")
    return [
        {
            "benchmark": "instruction_following", "model": model, "id": item["id"], "text": text,
            **score_instruction(text, item["checks"]),
        }
        for item, (text,) in zip(items, answers, strict=True)
    ]  # fmt: skip


def run_open(client: Client, items: Sequence[Row], model: str, benchmark: str, max_tokens: int = 160) -> list[Row]:
    """Answer open or two-turn questions; rows {benchmark, model, id, category, prompt, text}.

    A two-turn item's `prompt` and `text` show both turns, so that a judge sees the whole conversation.
    """
    turns = [item.get("turns") or [item["question"]] for item in items]
    answers = generate(client, turns, max_tokens, label=f"{benchmark} {model}")
    return [
        {
            "benchmark": benchmark, "model": model, "id": item["id"], "category": item["category"],
            "prompt": "\n".join(asked), "text": "\n".join(responses),
        }
        for item, asked, responses in zip(items, turns, answers, strict=True)
    ]  # fmt: skip


def judge_models(
    judge: Client, rows: list[Row], pairs: Sequence[tuple[str, str]], mode: str, tie_margin: float = 0.0
) -> list[Row]:
    """Compare models' answers to the same items, each pair in both orders; a tie is a tie or a verdict that
    flipped.

    Rows {benchmark, id, category, model_a, model_b, outcome (win|tie|loss|unscored for model_a), …margins}.
    """
    given = {(row["model"], row["id"]): row for row in rows}
    found = []
    for one, two in pairs:
        ids = sorted(item for model, item in given if model == one and (two, item) in given)
        compared = [
            Pair(item, given[one, item]["prompt"], given[one, item]["text"], given[two, item]["text"]) for item in ids
        ]
        for pair, verdict in zip(compared, judge_pairs(judge, compared, mode, tie_margin), strict=True):
            row = given[one, pair.id]
            found.append(
                {
                    "benchmark": row["benchmark"], "id": pair.id, "category": row["category"], "model_a": one,
                    "model_b": two, "outcome": OUTCOMES[verdict.outcome], "verdict": verdict.outcome,
                    "margin_forward": verdict.margin_forward, "margin_reverse": verdict.margin_reverse,
                }
            )  # fmt: skip
    return found


def category_wins(judged: list[Row]) -> list[Row]:
    """Win rate (ties half) of each model against its opponents by category: {category, model, value, low, high, n}."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in judged:
        if row["outcome"] != "unscored":
            share = {"win": 1.0, "tie": 0.5, "loss": 0.0}[row["outcome"]]
            found.setdefault((row["category"], row["model_a"]), []).append(share)
    rows = []
    for (category, model), values in sorted(found.items()):
        low, high = wilson(sum(values), len(values))
        rows.append(
            {"category": category, "model": model, "value": mean(values), "low": low, "high": high, "n": len(values)}
        )
    return rows
