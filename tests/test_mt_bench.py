"""MT-Bench and MT-Bench-TW: prompts read from a file of the published form, two turns, two games, hygiene of means."""

import gzip
import json
import math
from pathlib import Path

import pytest

from kyara_utils.evaluation.judged import mt_bench
from kyara_utils.llm import Response
from kyara_utils.runs.errors import KyaraError

TRUTH = Path(__file__).parents[1].parent / "shared" / "ground_truth"
QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["寫一首詩", "再短一點"]},
    {"question_id": 2, "category": "math", "turns": ["1+1?", "2+2?"]},
]
REFERENCES = {2: ["two", "four"]}
ONE = {1: ["poem-1", "short-1"], 2: ["2", "4"]}
TWO = {1: ["poem-2", "short-2"], 2: ["3", "5"]}


@pytest.fixture
def prompts(tmp_path):
    """Own prompts in the published format: every field that the two kinds, two turns and references use."""
    single = {
        "single-v1": "Q:{question} A:{answer}",
        "single-math-v1": "Q:{question} R:{ref_answer_1} A:{answer}",
        "single-v1-multi-turn": "Q:{question_1}|{question_2} A:{answer_1}|{answer_2}",
        "single-math-v1-multi-turn": "Q:{question_1}|{question_2} R:{ref_answer_1}|{ref_answer_2} A:{answer_2}",
        "pair-v2": "Q:{question} A:{answer_a} B:{answer_b}",
        "pair-math-v1": "Q:{question} R:{ref_answer_1} A:{answer_a} B:{answer_b}",
        "pair-v2-multi-turn": "Q:{question_2} A:{answer_a_2} B:{answer_b_2}",
        "pair-math-v1-multi-turn": "Q:{question_2} R:{ref_answer_2} A:{answer_a_2} B:{answer_b_2}",
    }
    path = tmp_path / "judge_prompts.jsonl"
    rows = [{"name": name, "system_prompt": f"judge {name}", "prompt_template": text} for name, text in single.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return mt_bench.load_judge_prompts(path)


class Judge:
    def __init__(self, said):
        self.said, self.seen = said, []

    def ask(self, requests, label=""):
        self.seen += [request.messages[-1]["content"] for request in requests]
        return [Response("call", self.said(request.messages[-1]["content"])) for request in requests]


def test_both_turns_are_judged_and_maths_sees_its_reference(prompts):
    judge = Judge(lambda text: "Rating: [[6]]" if "R:" in text else "Rating: [[8]]")
    rows = mt_bench.judge_single(judge, QUESTIONS, ONE, prompts, REFERENCES, "m")
    assert judge.seen == [
        "Q:寫一首詩 A:poem-1",
        "Q:寫一首詩|再短一點 A:poem-1|short-1",
        "Q:1+1? R:two A:2",
        "Q:1+1?|2+2? R:two|four A:4",
    ]
    assert [(row["turn"], row["score"]) for row in rows] == [(1, 8.0), (2, 8.0), (1, 6.0), (2, 6.0)]


def test_the_taiwanese_fork_takes_a_reference_wherever_there_is_one(prompts):
    references = {1: ["詩", "短詩"]}
    judge = Judge(lambda text: "[[5]]")
    mt_bench.judge_single(judge, QUESTIONS, ONE, prompts, references, by="presence")
    assert judge.seen[0] == "Q:寫一首詩 R:詩 A:poem-1" and judge.seen[2] == "Q:1+1? A:2"
    with pytest.raises(KyaraError, match="question 2 needs a reference"):
        mt_bench.judge_single(judge, QUESTIONS, ONE, prompts, references)


def test_a_swapped_game_names_the_other_winner():
    games = [("A", 1), ("A", 2), ("B", 2), ("C", 1), (None, 1)]
    assert [mt_bench.game_winner(*game) for game in games] == ["model_1", "model_2", "model_1", "tie", None]


def test_unscored_turns_are_left_out_of_the_mean_and_counted():
    rows = [{"model": "m", "question_id": i, "turn": 1, "score": score} for i, score in enumerate([8, 6, None])]
    (found,) = mt_bench.summarise_single([*rows, rows[0]])
    assert found["mean"] == pytest.approx(22 / 3) and found["turn_1"] == pytest.approx(22 / 3)
    assert (found["n"], found["unscored"], found["duplicates"]) == (3, 1, 1) and math.isnan(found["turn_2"])
    assert found["low"] <= found["mean"] <= found["high"]


def test_the_interval_resamples_questions_not_turns():
    rows = [
        {"model": "m", "question_id": i, "turn": turn, "score": 2 + 6 * (i % 2)} for i in range(40) for turn in (1, 2)
    ]
    (clustered,) = mt_bench.summarise_single(rows)
    (loose,) = mt_bench.summarise_single([row | {"question_id": i} for i, row in enumerate(rows)])
    assert clustered["high"] - clustered["low"] > 1.2 * (loose["high"] - loose["low"])


def test_a_prompt_file_of_another_form_is_one_line(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"name": "x"}\n')
    with pytest.raises(KyaraError, match="p.jsonl"):
        mt_bench.load_judge_prompts(tmp_path / "p.jsonl")


def test_references_are_read_from_the_published_form(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"question_id": 101, "choices": [{"turns": ["a", "b"]}]}\n')
    assert mt_bench.load_references(tmp_path / "r.jsonl") == {101: ["a", "b"]}


def test_the_golden_check_finds_a_changed_score_and_a_changed_winner(tmp_path):
    folder = tmp_path / "mt_bench"
    folder.mkdir()
    single = {"question_id": 1, "model": "m", "turn": 1, "judgment": "[[7]]", "score": 7}
    pair = {"question_id": 1, "g1_judgment": "[[A]]", "g1_winner": "model_1", "g2_judgment": "?", "g2_winner": "error"}
    for name, row in {"single": single, "wrong": single | {"score": 9}, "pairs": pair}.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.write(json.dumps(row) + "\n")
    wrong = [figure.name for figure in mt_bench.check(tmp_path) if not figure.matches]
    assert wrong == ["mt_bench/wrong scores read differently", "mt_bench/m mean"]
    assert list(mt_bench.check(tmp_path / "nowhere")) == []


@pytest.mark.skipif(not TRUTH.is_dir(), reason=f"no {TRUTH}")
def test_published_scores_means_and_winners_are_reproduced():
    figures = list(mt_bench.check(TRUTH))
    assert len(figures) >= 7 and all(figure.matches for figure in figures)
    mean = next(figure for figure in figures if figure.name == "mt_bench/mistral-orpo mean")
    assert mean.recomputed > 5.858 and "1 unscored" in mean.note  # with -1 for the failure it would be 5.8375
