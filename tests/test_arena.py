"""Arena-Hard v0.1: games to battles, Bradley–Terry and bootstrap against formulas, published figures."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from kyara_utils.evaluation.judged import arena
from kyara_utils.llm import Response
from kyara_utils.runs.errors import KyaraError
from kyara_utils.stats.bradley_terry import (
    bootstrap_scores,
    bradley_terry,
    win_rate,
)

TRUTH = Path(__file__).parents[1].parent / "shared" / "ground_truth"
PROMPT = arena.ArenaPrompt("judge", "{question_1}#{answer_1}#{answer_2}")


def battle(a, b, winner, weight=1, **more):
    return {"model_a": a, "model_b": b, "winner": winner, "weight": weight} | more


def judged(model, *labels):
    return {"question_id": "q", "model": model, "games": [{"score": label} for label in labels]}


def test_the_published_configuration_is_read(tmp_path):
    (tmp_path / "j.yaml").write_text(
        'system_prompt: "be fair"\nprompt_template: ["{question_1}{answer_1}{answer_2}"]\n'
    )
    prompt = arena.load_arena_prompt(tmp_path / "j.yaml")
    messages = arena.messages_for("q", "{answer_2}", "b", prompt)
    assert messages == [{"role": "system", "content": "be fair"}, {"role": "user", "content": "q{answer_2}b"}]
    (tmp_path / "j.yaml").write_text("prompt_template: [x]\n")
    with pytest.raises(KyaraError, match="j.yaml"):
        arena.load_arena_prompt(tmp_path / "j.yaml")


def test_both_games_count_and_a_strong_verdict_counts_three_times():
    battles = arena.battles_from([judged("m", "A>>B", "A>B"), judged("m", "A=B", None)], "base")
    assert [(b["winner"], b["weight"]) for b in battles] == [("model_a", 3), ("model_b", 1), ("tie", 1)]


def test_games_are_swapped_and_a_missing_label_is_asked_for_once():
    class Judge:
        asked = []

        def ask(self, requests, label=""):
            self.asked += requests
            texts = ["[[A>B]] or [[B>A]]" if r.messages[1]["content"] == "Q#mine#base" else "hm" for r in requests]
            return [
                Response("c", "[[B>A]]" if len(r.messages) > 2 else t) for r, t in zip(requests, texts, strict=True)
            ]

    questions = [{"question_id": "q", "turns": [{"content": "Q"}]}]
    (row,) = arena.judge_arena(Judge(), questions, {"q": "base"}, {"q": "mine"}, PROMPT, "m")
    assert [r.messages[1]["content"] for r in Judge.asked] == ["Q#base#mine", "Q#mine#base"] * 2
    assert Judge.asked[2].messages[-1]["content"] == arena.GO_ON and len(Judge.asked[3].messages) == 2
    assert [game["score"] for game in row["games"]] == ["B>A", None]


def test_two_models_score_as_the_log_odds_of_their_wins():
    battles = [battle("base", "m", "model_b", 3), battle("base", "m", "model_a", 1), battle("base", "m", "tie", 2)]
    scores = bradley_terry(battles, "base")
    assert scores["base"] == 1000
    assert scores["m"] == pytest.approx(1000 + 400 * math.log10((3 + 1) / (1 + 1)), abs=1e-4)
    assert win_rate(scores["m"], 1000) == pytest.approx(100 * 4 / 6, abs=1e-4)


def test_the_joint_fit_satisfies_the_equations_of_bradley_and_terry():
    generator = random.Random(3)
    names = "abcd"
    battles = [
        battle(*generator.sample(names, 2), generator.choice(["model_a", "model_b", "tie"]), generator.choice([1, 3]))
        for _ in range(200)
    ]
    scores = bradley_terry(battles, "a")
    for model in names:  # expected wins equal observed wins at the maximum of the likelihood
        observed = expected = 0.0
        for b in battles:
            if model in (b["model_a"], b["model_b"]):
                other = b["model_b"] if b["model_a"] == model else b["model_a"]
                won = {"tie": 0.5}.get(b["winner"], float(b.get(b["winner"]) == model))
                observed += b["weight"] * won
                expected += b["weight"] * win_rate(scores[model], scores[other]) / 100
        assert observed == pytest.approx(expected, abs=1e-4)


def test_the_bootstrap_spreads_as_the_formula_says_and_repeats_with_its_seed():
    battles = [battle("base", "m", "model_b", 300), battle("base", "m", "model_a", 100)]
    scores = bootstrap_scores(battles, "base", n=400)["m"]
    assert np.std(scores) == pytest.approx(400 / math.log(10) / math.sqrt(400 * 0.75 * 0.25), rel=0.15)
    assert (scores == bootstrap_scores(battles, "base", n=400)["m"]).all()


def test_a_model_that_never_lost_has_a_finite_score():
    scores = bradley_terry([battle("base", "m", "model_b", 50)], "base")
    assert 1500 < scores["m"] < 1e5


def test_a_summary_has_rates_intervals_and_unscored_games():
    rows = [judged("good", "B>A", "A>B")] * 30 + [judged("good", "A>B", None)] * 10
    best, base = arena.summarise(rows, "base")
    assert best["model"] == "good" and best["win_rate"] == pytest.approx(100 * 60 / 70, abs=1e-3)
    assert best["low"] < best["win_rate"] < best["high"] and (best["n"], best["unscored"]) == (70, 10)
    assert base["win_rate"] == pytest.approx(50) and arena.summarise([], "base") == []
    (mute,) = arena.summarise([judged("mute", None, None)], "base")
    assert math.isnan(mute["win_rate"]) and (mute["n"], mute["unscored"]) == (0, 2)
    with pytest.raises(KyaraError, match="baseline"):
        bradley_terry([battle("a", "b", "tie")], "base")


def test_the_golden_check_finds_a_changed_interval(tmp_path):
    folder = tmp_path / "arena_hard"
    folder.mkdir()
    row = {"model": "m", "score": 2.0, "lower": 0.025, "upper": 0.9, "results": [i / 100 for i in range(101)]}
    (folder / "stored.jsonl").write_text(json.dumps(row) + "\n")
    wrong = [figure.name for figure in arena.check(tmp_path) if not figure.matches]
    assert wrong == ["arena_hard/stored m upper"] and list(arena.check(tmp_path / "nowhere")) == []


@pytest.mark.skipif(not TRUTH.is_dir(), reason=f"no {TRUTH}")
def test_published_intervals_and_win_rates_are_reproduced():
    figures = list(arena.check(TRUTH))
    assert figures and all(figure.matches for figure in figures)
    assert sum("win rate" in figure.name for figure in figures) >= 5
