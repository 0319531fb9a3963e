"""AlpacaEval and Arena-Hard from published files to the card's cells: own files of their form, a scripted judge."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from test_judged_runs import lines

from kyara_utils.evaluation.card import OURS, card_tables
from kyara_utils.evaluation.judged import alpaca, baseline_runs, judged_runs
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
    for name, text in files.items():
        monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], sha256="", size=0))
        path = tmp_path / REGISTRY[name].place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def difficulty(folder, values):
    """The file that is on the Hub only."""
    path = folder / baseline_runs.DIFFICULTY
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
    client = Client()
    said = {
        name: {q["question_id"]: f"ours {name}{'.' * q['question_id']}" for q in data.questions["alpaca_eval"]}
        for name in models
    }
    arena = {q["question_id"]: "ours" for q in data.questions["arena_hard"]}
    return judged_runs.grade(
        client, data, {name: {"alpaca_eval": texts, "arena_hard": arena} for name, texts in said.items()}
    )


def test_both_are_loaded_and_each_missing_file_is_named(folder):
    """A card that only says "not run" sends nobody to the file that is missing."""
    data = judged_runs.load_judged(".", folder)
    assert {name: len(rows) for name, rows in data.questions.items()} == {"alpaca_eval": N, "arena_hard": N}
    (folder / REGISTRY["arena_baseline"].place).unlink()
    again = judged_runs.load_judged(".", folder)
    assert "gpt-4-0314.jsonl in the data folder" in again.reasons["arena_hard"] and "arena_hard" not in again.questions
    assert set(again.questions) == {"alpaca_eval"}


def test_win_rates_are_those_of_the_verdicts(folder):
    """A game read from the wrong side gives 100 minus the rate, which looks as good."""
    rows = graded(judged_runs.load_judged(".", folder))
    scores = {(row["benchmark"], row["metric"]): row for row in judged_runs.summarise_ratings(rows, "j")}
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
    part = judged_runs.load_judged(".", folder, limit=N - 2)
    metrics = [row["metric"] for row in judged_runs.summarise_ratings(graded(part), "j")]
    assert "length_controlled" not in metrics
    rows = graded(judged_runs.load_judged(".", folder))
    mine = [row for row in rows if row["benchmark"] == "alpaca_eval"]
    expected = alpaca.summarise(mine, np.linspace(-1, 1, N))[alpaca.CONTROLLED]
    (found,) = [row for row in judged_runs.summarise_ratings(rows, "j") if row["metric"] == "length_controlled"]
    assert found["value"] == pytest.approx(expected / 100)


def test_the_card_shows_them_with_the_paired_difference(folder):
    """Shares under ratings of 1 to 10 would stand a hundredth too small."""
    data = judged_runs.load_judged(".", folder)
    rows = graded(data, ("dpo", "base"))
    for row in rows:
        if row["model"] == "base" and row["question_id"] in (1, "q1"):
            row["score"] = 0.0
    ratings = judged_runs.summarise_ratings(rows, "j")
    differences = judged_runs.rating_differences(rows, [("dpo", "base")])
    lines = {row["score"]: row for row in card_tables(ratings, differences, "dpo", "base")}
    assert lines["AlpacaEval"][OURS].startswith("67.86 [") and lines["AlpacaEval"]["judge"] == "j; not the card's"
    assert lines["AlpacaEval"]["paired difference"].startswith("+10.71 [")  # 0.75 / 7
    assert lines["Chatbot-Arena-Hard"]["paired difference"].startswith("+14.29 [")
    assert lines["AlpacaEval-LC"][OURS] == "not run"
