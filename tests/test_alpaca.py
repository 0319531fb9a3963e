"""AlpacaEval 2: preferences from log-probabilities, raw and length-controlled win rates, against published figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kyara_utils.evaluation.golden.golden_files import read_expected, read_records
from kyara_utils.evaluation.judged import alpaca
from kyara_utils.evaluation.judged.length import LengthControl, gamed_rows, load_difficulty
from kyara_utils.llm import Response
from kyara_utils.runs.errors import KyaraError
from kyara_utils.stats.logistic import fit_logistic, logistic_terms, sigmoid

TRUTH = Path(__file__).parents[1].parent / "shared" / "ground_truth" / "alpaca_eval"
needs_truth = pytest.mark.skipif(not TRUTH.is_dir(), reason=f"no {TRUTH}")
TEMPLATE = """<|im_start|>system
You pick answers.
<|im_end|>
<|im_start|>user
{
    "instruction": "{instruction}",
    "m": "{output_1}", "M": "{output_2}"
}
<|im_end|>"""


@pytest.fixture
def template(tmp_path):
    (tmp_path / "clf.txt").write_text(TEMPLATE)
    return alpaca.load_alpaca_prompt(tmp_path / "clf.txt")


def switched(wanted: bool) -> str:
    return next(text for text in map(str, range(100)) if alpaca.is_switched(text) is wanted)


def test_the_template_keeps_its_braces_and_marks_in_answers_stay_text(template):
    messages = alpaca.messages_for(switched(False), "base <|im_end|>", "{instruction}", template)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert '"m": "base <|im_end|>", "M": "{instruction}"\n}' in messages[1]["content"]


def test_the_coin_decides_the_places_and_the_preference_is_turned_back(template):
    content = alpaca.messages_for(switched(True), "BASE", "MODEL", template)[1]["content"]
    assert content.index("MODEL") < content.index("BASE")
    sure = {"m": -0.001, "M": -9.0}
    assert alpaca.parse_preference(sure, switched=False) < 1.01 and alpaca.parse_preference(sure, switched=True) > 1.99


def test_preference_is_a_softmax_over_the_two_names_only():
    tokens = {"m": math.log(0.3), "M": math.log(0.1), "The": math.log(0.6)}
    assert alpaca.parse_preference(tokens, switched=False) == pytest.approx(1.25)
    assert alpaca.parse_preference({"m": -3.0, "x": -1}, switched=False) == 1.0
    assert alpaca.parse_preference({"The": 0.0}, switched=False) is None


def test_an_answer_without_either_name_is_asked_again_then_unscored(template):
    class Judge:
        calls = 0

        def ask(self, requests, label=""):
            self.calls += len(requests)
            assert all(request.max_tokens == 1 and request.top_logprobs == 5 for request in requests)
            return [Response("c", "The", logprobs=[{"The": 0.0}]) for _ in requests]

    judge, row = Judge(), {"instruction": "x", "output_1": "a", "output_2": "b"}
    same = {"instruction": "y", "output_1": "b", "output_2": "b"}
    drawn, found = alpaca.judge_outputs(judge, [same, row], template)
    assert found["preference"] is None and judge.calls == 2 and drawn["preference"] == 1.5


def annotated(n=300, seed=0, slope=-1.5, skill=-0.5):
    """Annotations drawn from the length-control model itself, with known θ = (slope, 0.8, skill)."""
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(size=n)
    base = generator.integers(300, 4000, n)
    said = generator.integers(300, 4000, n)
    z = (base - said) / np.std(base - said, ddof=1)
    chance = sigmoid(slope * np.tanh(z) + 0.8 * difficulty + skill)
    rows = [
        {"instruction": str(i), "output_1": "a" * int(base[i]), "output_2": "b" * int(said[i]), "preference": 1 + p}
        for i, p in enumerate(chance)
    ]
    return rows, difficulty


def test_unscored_rows_leave_the_rate_and_zero_is_a_draw():
    rows = [{"output_1": "", "output_2": "xx", "preference": value} for value in (2.0, 1.0, 0.0, None)]
    found = alpaca.summarise(rows)
    assert (found["win_rate"], found["discrete_win_rate"], found["unscored"]) == (50.0, 50.0, 1)
    assert (found["n_wins"], found["n_wins_base"], found["n_draws"], found["n_total"]) == (1, 1, 1, 3)


def test_length_control_answers_what_equal_lengths_would_give():
    rows, difficulty = annotated(800)
    wanted = 100 * sigmoid(0.8 * difficulty - 0.5).mean()
    found = alpaca.summarise(rows, difficulty, bootstrap=50)
    assert found["length_controlled_winrate"] == pytest.approx(wanted, abs=2.5)
    assert found["lc_low"] < found["length_controlled_winrate"] < found["lc_high"]


def test_a_longer_twin_wins_more_but_not_under_length_control():
    rows, difficulty = annotated(800)
    longer = [row | {"output_2": row["output_2"] + "b" * 1500} for row in rows]
    z = np.array([len(row["output_1"]) - len(row["output_2"]) for row in longer], float)
    chance = sigmoid(-1.5 * np.tanh(z / z.std(ddof=1)) + 0.8 * difficulty - 0.5)
    longer = [row | {"preference": 1 + p} for row, p in zip(longer, chance, strict=True)]
    before, after = (alpaca.summarise(given, difficulty, bootstrap=0) for given in (rows, longer))
    assert after["win_rate"] - before["win_rate"] > 10
    assert abs(after["length_controlled_winrate"] - before["length_controlled_winrate"]) < 2.5


def test_rows_are_matched_by_index_and_a_gap_is_never_closed_by_position():
    rows, difficulty = annotated(300)
    with pytest.raises(KyaraError, match="index"):
        alpaca.length_control(rows[1:], difficulty)
    numbered = [row | {"index": i} for i, row in enumerate(rows)][1:]
    found = alpaca.length_control(numbered[::-1], difficulty)
    assert found.difficulty.tolist() == difficulty[:0:-1].tolist()


def test_length_control_holds_up_on_few_rows_one_sided_verdicts_and_none_at_all():
    rows, difficulty = annotated(300)
    few = [row | {"index": i} for i, row in enumerate(rows[:25])]
    assert 0 < alpaca.summarise(few, difficulty, bootstrap=20)["lc_low"] < 100
    for preference, limit in ((1.0, 5), (2.0, 100)):
        sure = alpaca.summarise([row | {"preference": preference} for row in rows], difficulty, bootstrap=5)
        assert limit - 5 < sure["length_controlled_winrate"] <= limit
    none = alpaca.summarise([row | {"preference": None} for row in rows], difficulty)
    assert math.isnan(none["length_controlled_winrate"]) and none["unscored"] == 300


def test_the_paired_difference_is_narrower_than_two_intervals():
    rows, difficulty = annotated(300)
    better = [row | {"preference": min(2.0, row["preference"] + 0.05)} for row in rows]
    found = alpaca.compare_length_controlled(better, rows, difficulty, n=40)
    alone = alpaca.summarise(rows, difficulty, bootstrap=40)
    assert found["low"] > 0 and found["high"] - found["low"] < (alone["lc_high"] - alone["lc_low"]) / 200
    with pytest.raises(KyaraError, match="different instructions"):
        alpaca.compare_length_controlled(rows[::-1], rows, difficulty)


def test_answers_of_one_length_are_one_line_not_a_division_by_zero():
    with pytest.raises(KyaraError, match="different lengths"):
        LengthControl([1.0, 0.0], [10, 10], [10, 10], [0.0, 1.0])


def test_newton_finds_the_zero_of_the_gradient_and_separation_stays_finite():
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(60, 3)), generator.random(60)
    theta = fit_logistic(features, labels, l2=0.5)
    gradient = logistic_terms(features, labels, np.ones(60), theta)[1] + 0.5 * theta
    assert np.abs(gradient).max() < 1e-5
    assert np.isfinite(fit_logistic(np.ones((5, 1)), np.ones(5))).all()
    sparse = fit_logistic(features, labels, l1=100.0)
    assert np.abs(sparse).max() < 1e-4


def test_the_modelled_rows_stand_for_two_gamed_baselines_of_805():
    features, weights, sums = gamed_rows(np.linspace(100, 4000, 200), np.linspace(-2, 2, 200))
    assert weights.sum() == pytest.approx(1610) and np.abs(features[:, 0]).max() <= 1
    assert np.abs(sums) @ [1, 0.5] < weights.sum()  # labels are chances


def test_a_damaged_difficulty_table_is_named(tmp_path):
    (tmp_path / "d.csv").write_text(",0\n0,1.0\n2,1.0\n")
    with pytest.raises(KyaraError, match="d.csv"):
        load_difficulty(tmp_path / "d.csv")


@needs_truth
def test_published_rates_are_reproduced_and_the_length_controlled_one_nearly():
    figures = list(alpaca.check(TRUTH.parent))
    assert figures and all(figure.matches for figure in figures)
    controlled = [figure for figure in figures if figure.name.endswith("length_controlled_winrate")]
    assert len(controlled) >= 3 and max(abs(figure.difference) for figure in controlled) < 0.35


@needs_truth
@pytest.mark.parametrize("model", ["gpt-3.5-turbo-1106", "gemma-2b-it", "claude-2.1"])
def test_stored_preferences_follow_from_the_stored_log_probabilities(model):
    path = TRUTH / f"{model}.jsonl.gz"
    rows = [row for row in read_records(path) if row["raw_completion"]]
    assert len(rows) > 800
    assert max(abs(alpaca.stored_preference(row) - row["preference"]) for row in rows) < 1e-9
    bare = [{name: value for name, value in row.items() if name != "preference"} for row in read_records(path)]
    published = float(read_expected(TRUTH)[model]["win_rate"])
    assert alpaca.summarise(bare)["win_rate"] == pytest.approx(published, abs=1e-9)


@needs_truth
def test_without_the_difficulty_term_the_rate_is_far_off():
    rows = read_records(TRUTH / "gpt-3.5-turbo-1106.jsonl.gz")
    z = np.array([len(row["output_1"]) - len(row["output_2"]) for row in rows], float)
    features = np.column_stack([np.tanh(z / z.std(ddof=1)), np.ones(len(z))])
    theta = fit_logistic(features, alpaca.preferences(rows) - 1)
    published = float(read_expected(TRUTH)["gpt-3.5-turbo-1106"]["length_controlled_winrate"])
    assert 100 * sigmoid(theta[1]) > published + 5


@needs_truth
def test_the_published_error_understates_what_resampling_instructions_shows():
    rows, difficulty = read_records(TRUTH / "claude-2.1.jsonl.gz"), load_difficulty(TRUTH / alpaca.DIFFICULTY_FILE)
    found = alpaca.summarise(rows, difficulty, bootstrap=100)
    assert (found["lc_high"] - found["lc_low"]) / 3.92 > 1.5 * found["lc_standard_error"]


@needs_truth
def test_a_changed_preference_is_found(tmp_path):
    folder = tmp_path / "alpaca_eval"
    folder.mkdir()
    rows = read_records(TRUTH / "gemma-2b-it.jsonl.gz")
    rows[7]["preference"] = 3 - rows[7]["preference"]
    (folder / "gemma-2b-it.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "expected.csv").write_bytes((TRUTH / "expected.csv").read_bytes())
    wrong = {figure.name.split()[1] for figure in alpaca.check(tmp_path) if not figure.matches}
    assert {"win_rate", "n_wins"} <= wrong
