"""AlpacaEval and Arena-Hard from published files to the card's cells: own files of their form, a scripted judge."""

import json
import math

import numpy as np
import pytest
from folders import publish
from test_rated import lines, load_rated

from kyara_utils.evaluation import evaluate
from kyara_utils.evaluation.benchmark import Judge
from kyara_utils.evaluation.card import OURS, card_tables
from kyara_utils.evaluation.judged import alpaca
from kyara_utils.evaluation.judged.length import DIFFICULTY
from kyara_utils.evaluation.published import REGISTRY
from kyara_utils.llm import Response

N = 8
CHATML = (
    "<|im_start|>system\nYou judge.\n<|im_end|>\n"
    "<|im_start|>user\n{instruction}\nm: {output_1}\nM: {output_2}\n<|im_end|>\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with files of one's own at the published places, their pins lifted."""
    monkeypatch.delenv("KYARA_EVAL_DATA", raising=False)
    outputs = [{"instruction": f"do {n}", "output": f"baseline {n}", "dataset": "d"} for n in range(N)]
    questions = [{"question_id": f"q{n}", "turns": [{"content": f"hard {n}"}]} for n in range(N)]
    answers = [{"question_id": f"q{n}", "choices": [{"turns": [{"content": f"baseline {n}"}]}]} for n in range(N)]
    template = "{question_1}\nA: {answer_1}\nB: {answer_2}"
    files = {
        "alpaca_prompt": CHATML, "alpaca_baseline": json.dumps(outputs), "arena_questions": lines(questions),
        "arena_baseline": lines(answers),
        "arena_prompt": json.dumps({"system_prompt": "judge", "prompt_template": [template]}),  # JSON is YAML
    }  # fmt: skip
    return publish(tmp_path, files, monkeypatch)


def difficulty(folder, values):
    """The file that is on the Hub only."""
    path = folder / DIFFICULTY
    path.write_text("index,difficulty\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))


def judge(request) -> Response:
    """Prefers "ours" to the baseline in either place, but never for question 0; gives no verdict on question 7."""
    text = request.messages[1]["content"]
    first, second = text.splitlines()[-2:]
    if text.startswith(("do 7", "hard 7")):
        return Response("c", "no idea", "stop")
    wanted = "ours" if not text.startswith(("do 0", "hard 0")) else "baseline"
    is_first = wanted in first
    assert is_first != (wanted in second)
    if first.startswith("m:"):
        chosen, other = ("m", "M") if is_first else ("M", "m")
        return Response("c", chosen, "stop", [{chosen: math.log(0.75), other: math.log(0.25)}])
    return Response("c", "[[A>>B]]" if is_first else "[[B>A]]", "stop")


class Client:
    """A judge that answers by the function above."""

    def ask(self, requests, **_):
        return [judge(request) for request in requests]


def graded(data, models=("sft",)):
    """Every model gives the same answers; AlpacaEval's grow with the question's number."""
    alpaca_items, arena_items = (data.questions[name].items for name in ("alpaca_eval", "arena_hard"))
    answers = {
        model: {
            "alpaca_eval": [{"id": q["id"], "turns": [f"ours {model}{'.' * q['question_id']}"]} for q in alpaca_items],
            "arena_hard": [{"id": q["id"], "turns": ["ours"]} for q in arena_items],
        }
        for model in models
    }
    return evaluate.score(data, answers, Judge(Client(), "j"))


def test_both_are_loaded_and_each_missing_file_is_named(folder):
    """A card that only says "not run" sends nobody to the file that is missing."""
    data = load_rated(".", folder)
    assert {name: len(found.items) for name, found in data.questions.items()} == {"alpaca_eval": N, "arena_hard": N}
    (folder / REGISTRY["arena_baseline"].place).unlink()
    again = load_rated(".", folder)
    assert "gpt-4-0314.jsonl in the data folder" in again.reasons["arena_hard"] and "arena_hard" not in again.questions
    assert set(again.questions) == {"alpaca_eval"}


def test_win_rates_are_those_of_the_verdicts(folder):
    """A game read from the wrong side gives 100 minus the rate, which looks as good."""
    rows = graded(load_rated(".", folder))
    scores = {(row["benchmark"], row["metric"]): row for row in evaluate.summarise(rows)}
    found = scores["alpaca_eval", "win_rate"]
    assert found["value"] == pytest.approx((0.25 + 6 * 0.75) / 7) and found["low"] <= found["value"] <= found["high"]
    assert (found["n"], found["unscored"]) == (N, 1)
    assert ("alpaca_eval", "length_controlled") not in scores
    # each won question: 3 + 1 battles won; question 0: 3 + 1 lost; the fit shrinks the rate a little
    arena = scores["arena_hard", "win_rate"]
    assert arena["value"] == pytest.approx(6 / 7, abs=0.02) and (arena["n"], arena["unscored"]) == (N, 1)
    shares = {row["question_id"]: row["score"] for row in rows if row["benchmark"] == "arena_hard"}
    assert shares["q0"] == 0 and shares["q1"] == 1 and shares["q7"] is None


def test_length_control_needs_every_instruction_and_its_difficulty(folder):
    """A fit on a part of the instructions is another figure under the same name."""
    difficulty(folder, np.linspace(-1, 1, N))
    part = load_rated(".", folder, limit=N - 2)
    metrics = [row["metric"] for row in evaluate.summarise(graded(part))]
    assert "length_controlled" not in metrics
    rows = graded(load_rated(".", folder))
    mine = [row for row in rows if row["benchmark"] == "alpaca_eval"]
    expected = alpaca.summarise(mine, np.linspace(-1, 1, N))[alpaca.CONTROLLED_RATE]
    (found,) = [row for row in evaluate.summarise(rows) if row["metric"] == "length_controlled"]
    assert found["value"] == pytest.approx(expected / 100)


def test_the_card_shows_them_with_the_paired_difference(folder):
    """Shares under ratings of 1 to 10 would stand a hundredth too small."""
    data = load_rated(".", folder)
    rows = graded(data, ("dpo", "base"))
    for row in rows:
        if row["model"] == "base" and row["question_id"] in (1, "q1"):
            row["score"] = 0.0
    ratings = evaluate.summarise(rows)
    differences = evaluate.differences(rows, ["base", "dpo"])
    lines = {row["score"]: row for row in card_tables(ratings, differences, "dpo", "base")}
    assert lines["AlpacaEval"][OURS].startswith("67.86 [") and lines["AlpacaEval"]["judge"] == "j; not the card's"
    assert lines["AlpacaEval"]["paired difference"].startswith("+10.71 [")  # 0.75 / 7
    assert lines["Chatbot-Arena-Hard"]["paired difference"].startswith("+14.29 [")
    assert lines["AlpacaEval-LC"][OURS] == "not run"
