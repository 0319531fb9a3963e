"""Scoring, intervals and score tables: each test names the wrong number it prevents."""

import json
import math
import time

import numpy as np
import pytest

from kyara_utils.evaluation.miniature.items import benchmark_names, benchmark_texts, load_items
from kyara_utils.evaluation.scoring import RULES, score_choice, score_instruction, score_maths
from kyara_utils.evaluation.summary import (
    compare,
    count_pairs,
    summarise_choice,
    summarise_instruction,
    summarise_maths,
    summarise_pairs,
)
from kyara_utils.runs.errors import KyaraError
from kyara_utils.stats.intervals import (
    bootstrap_mean,
    mcnemar,
    minimum_detectable_difference,
    paired_bootstrap,
    paired_shares,
    wilson,
)

# Statistics


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilson_matches_published_values(k, n, low, high):
    """A slip in the formula would print intervals nobody else gets (Newcombe 1998, table I, method 3)."""
    assert wilson(k, n) == pytest.approx((low, high), abs=6e-5)


def test_wilson_at_the_edges():
    """No item must give no interval, and an impossible count must not give a plausible one."""
    assert all(math.isnan(end) for end in wilson(0, 0))
    with pytest.raises(KyaraError):
        wilson(5, 4)


def test_cluster_bootstrap_is_wider_when_items_of_a_group_agree():
    """Treating ten equal items of a subject as independent would shrink the interval about threefold."""
    values, groups = np.repeat([0, 1] * 8, 10).tolist(), np.repeat(np.arange(16), 10).tolist()
    _, low, high = bootstrap_mean(values)
    mean, group_low, group_high = bootstrap_mean(values, groups)
    assert mean == 0.5
    assert 2.5 < (group_high - group_low) / (high - low) < 4


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """A bootstrap that resamples the wrong way still returns two numbers; only its coverage shows the
    fault."""
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        _, low, high = bootstrap_mean(generator.normal(3, 1, 60), seed=trial, n=300)
        hits += low <= 3 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_bootstrap_leaves_unscored_out_and_is_repeatable():
    """NaN in a mean would poison it; a fresh seed per call would change committed figures."""
    assert bootstrap_mean([1, math.nan, 0, 1]) == bootstrap_mean([1, 0, 1])
    assert all(math.isnan(value) for value in bootstrap_mean([math.nan]))
    assert bootstrap_mean([2.0]) == (2.0, 2.0, 2.0)
    with pytest.raises(KyaraError):
        bootstrap_mean([1, 2], groups=["a"])


def test_paired_bootstrap_uses_the_pairing():
    """A constant small gain over noisy items is certain when paired and invisible when not."""
    noise = np.random.default_rng(0).normal(0, 5, 200)
    difference, low, high, p = paired_bootstrap(noise + 0.2, noise)
    assert difference == pytest.approx(0.2) and low == pytest.approx(0.2) and high == pytest.approx(0.2)
    assert p < 0.01
    assert paired_bootstrap(noise, noise)[3] == 1.0
    assert paired_bootstrap([1, 0], [0, 1])[3] > 0.5
    with pytest.raises(KyaraError):
        paired_bootstrap([1], [1, 2])


def test_mcnemar_is_the_exact_binomial():
    """The chi-square version is wrong for the few discordant pairs a miniature set has."""
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 1024)
    assert mcnemar(6, 6) == 1.0
    assert mcnemar(0, 5000) < 1e-300


def test_minimum_detectable_difference():
    """Told that 100 items show a gain of 10 points, a reader would believe noise: they show about 20."""
    assert minimum_detectable_difference(100) == pytest.approx(0.198, abs=1e-3)
    assert minimum_detectable_difference(400) == pytest.approx(minimum_detectable_difference(100) / 2)
    assert math.isnan(minimum_detectable_difference(0))


# Items


def test_bundled_items_are_complete():
    """A benchmark whose rules or fields drifted from its README would be scored silently wrong."""
    sizes = {name: len(load_items(name)) for name in benchmark_names()}
    reading = {"open_book": 260, "open_book_absent": 78}
    others = {"instruction_following": 32, "maths": 40, "multiple_choice": 160, "open_questions": 32, "two_turn": 24}
    assert sizes == others | reading
    with pytest.raises(KyaraError, match="multiple_choice"):
        load_items("mmlu")


def test_limit_keeps_every_subject():
    """A plain head of the file would keep one subject and call its score the macro mean."""
    items = load_items("multiple_choice", 3)
    subjects = [item["subject"] for item in items]
    assert len(items) == 24 and {subjects.count(subject) for subject in subjects} == {3}
    assert len(load_items("open_questions", 1)) == 8 and len(load_items("maths", 5)) == 5


def test_benchmark_texts_hold_what_must_not_be_trained_on():
    """Options and references left out would let a training row repeat an answer unseen."""
    texts = benchmark_texts()
    assert len(texts) == 626
    first = load_items("multiple_choice")[0]
    assert all(first[field] in texts[first["id"]] for field in ("question", "A", "B", "C", "D"))
    assert all(turn in texts["turn-01"] for turn in load_items("two_turn")[0]["turns"])
    assert load_items("open_questions")[0]["reference"] in texts["open-01"]


# Choice


def test_choice_is_calibrated_by_the_prior():
    """Without calibration a model that always likes A scores on letter habit."""
    logprobs = {"A": -0.5, "B": -1.0, "C": -3.0, "D": -3.0}
    prior = {"A": -0.2, "B": -2.0, "C": -3.0, "D": -3.0}
    assert score_choice(logprobs, "B")["outcome"] == "wrong"
    scored = score_choice(logprobs, "B", prior)
    assert scored["outcome"] == "correct" and scored["chosen"] == "B"
    assert scored["margin"] == pytest.approx(1.0)


@pytest.mark.parametrize("d", [None, math.nan, -math.inf])
def test_choice_with_a_missing_letter_is_unscored(d):
    """A letter outside the top log-probabilities is unknown, not impossible."""
    logprobs = {"A": -1.0, "B": -2.0, "C": -3.0} | ({} if d is None else {"D": d})
    assert score_choice(logprobs, "A")["outcome"] == "unscored"


def test_choice_tie_is_unscored():
    """Giving ties to the first letter would reward keys that are A."""
    assert score_choice(dict.fromkeys("ABCD", -1.0), "A")["outcome"] == "unscored"


# Maths


@pytest.mark.parametrize(
    ("text", "answer", "strict", "lenient"),
    [
        ("18 ÷ 6 = 3。\n答案是3。", "3", "correct", "correct"),
        ("答案是 １２，３４５ 元", "12345", "correct", "correct"),
        ("答案是12,345。", "12345", "correct", "correct"),
        ("答案是**-5**", "-5", "correct", "correct"),
        ("答案是：7.0", "7", "correct", "correct"),
        ("先算出答案是4，再加1，答案是5。", "5", "correct", "correct"),
        ("所以一共是 42", "42", "unscored", "correct"),
        ("我不知道", "3", "unscored", "unscored"),
        ("", "3", "unscored", "unscored"),
        (None, "3", "unscored", "unscored"),
        ("答案是3/4", "3", "unscored", "wrong"),
        ("答案是18 ÷ 6 = 3", "18", "unscored", "wrong"),
        ("答案是12\n- 第1步", "12", "correct", "wrong"),
        ("答案是13", "3", "wrong", "wrong"),
        ("10-4", "-4", "unscored", "wrong"),
        ("面積是9 m²", "9", "unscored", "correct"),
        ("答案是" + "9" * 5000, "9", "wrong", "wrong"),
        ("有3，125人", "125", "unscored", "correct"),
    ],
)
def test_maths_rules(text, answer, strict, lenient):
    """Each line is a way in which a parser has turned a right answer wrong or a wrong one right."""
    scored = score_maths(text, answer)
    assert (scored["strict"], scored["lenient"]) == (strict, lenient)


def test_maths_keys_score_their_own_solutions():
    """If the written solution does not pass, no model can."""
    for item in load_items("maths"):
        scored = score_maths(item["solution"], item["answer"])
        assert scored["strict"] == scored["lenient"] == "correct", item["id"]


# Instructions

PASSES_AND_FAILS = {
    "max_chars": ({"n": 3}, ["三個字"], ["四個字！"]),
    "min_chars": ({"n": 3}, ["三個字"], ["兩字"]),
    "keyword": ({"word": "豆花"}, ["吃豆花"], ["吃豆 花"]),
    "forbidden": ({"word": "吵"}, ["安靜"], ["很吵"]),
    "starts_with": ({"text": "我推薦"}, ["  我推薦你"], ["「我推薦」"]),
    "ends_with": ({"text": "謝謝您！"}, ["謝謝您！\n"], ["謝謝您"]),
    "sentences_max": ({"n": 2}, ["一。二！", "一"], ["一。二。三"]),
    "sentences_exact": ({"n": 2}, ["好嗎？！好。", "「好。」他說"], ["好。", "一。二。三。"]),
    "bullet_count": ({"n": 2}, ["如下\n- 一\n- 二"], ["- 一", "* 一\n* 二", "-一\n-二"]),
    "numbered_count": ({"n": 2}, ["1. 一\n2.二"], ["1. 一\n3. 二", "1.5 公斤\n2. 二", "1、一\n2、二"]),
    "json": (
        {"keys": ["a", "b"]},
        ['{"a": 1, "b": [2]}'],
        ['{"a": 1}', "[1]", "```json\n{}\n```", "[" * 10**5],
    ),
    "no_comma": ({}, ["一、二"], ["一，二", "1,2"]),
    "no_digits": ({}, ["三"], ["3", "３"]),
    "contains_digit": ({}, ["第3"], ["第三"]),
    "question_mark_end": ({}, ["好嗎？", "ok?"], ["好嗎？」"]),
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_can_pass_and_fail(rule):
    """A rule that never fails gives every model full marks; an empty answer must pass none."""
    args, good, bad = PASSES_AND_FAILS[rule]
    checks = [{"rule": rule, "args": args}]
    assert all(score_instruction(text, checks)["outcome"] == "correct" for text in good)
    assert all(score_instruction(text, checks)["outcome"] == "wrong" for text in [*bad, "", " \n"])


def test_instruction_levels_and_errors():
    """A failed call is unscored on every check; a misspelt rule must stop the run, not fail the model."""
    checks = [{"rule": "no_comma", "args": {}}, {"rule": "max_chars", "args": {"n": 2}}]
    assert score_instruction("一二三", checks) == {"outcome": "wrong", "checks": ["correct", "wrong"]}
    assert score_instruction(None, checks) == {"outcome": "unscored", "checks": ["unscored", "unscored"]}
    wrong_args = [{"rule": "max_chars", "args": args} for args in ({}, {"n": "2"}, {"n": 2, "m": 3})]
    for bad in [{"rule": "no_commas"}, *wrong_args]:
        with pytest.raises(KyaraError):
            score_instruction("一", [bad])


def test_bundled_checks_use_known_rules():
    """An unknown rule in the data would stop an evaluation after the models were paid for."""
    for item in load_items("instruction_following"):
        score_instruction("答案", item["checks"])


@pytest.mark.parametrize("unit", ["9", "1,", "答案是", "答案是1", "１，", "-"])
def test_ten_megabytes_of_maths_take_bounded_time(unit):
    """A runaway generation once hung a scorer for hours in a backtracking pattern."""
    start = time.process_time()
    score_maths(unit * (10_000_000 // len(unit.encode())), "3")
    assert time.process_time() - start < 10


@pytest.mark.parametrize("rule", ["sentences_exact", "numbered_count", "bullet_count", "json", "no_digits"])
def test_ten_megabytes_of_instructions_take_bounded_time(rule):
    """The same for the rules that split or parse the answer."""
    checks, start = [{"rule": rule, "args": PASSES_AND_FAILS[rule][0]}], time.process_time()
    for unit in ("1.\n", "a。", "{"):
        score_instruction(unit * 3_400_000, checks)
    assert time.process_time() - start < 20


# Summary


def choice_rows(right_by_subject, unscored=0):
    """20 items for each of {subject: (group, right)}; the first `unscored` wrong ones are unscored."""
    rows = []
    for subject, (group, right) in right_by_subject.items():
        for i in range(20):
            outcome = "correct" if i < right else "unscored" if i < right + unscored else "wrong"
            row = {"benchmark": "multiple_choice", "model": "sft", "group": group, "subject": subject}
            rows.append(row | {"id": f"{subject}{i}", "outcome": outcome})
    return rows


def test_macro_is_the_mean_of_group_means():
    """A micro mean would let the group with more items decide (lm_eval's tmmluplus does that)."""
    rows = choice_rows({"a": ("stem", 20), "b": ("stem", 20), "c": ("stem", 20), "d": ("other", 0)})
    scores = {row["metric"]: row for row in summarise_choice(rows)}
    assert scores["macro"]["value"] == pytest.approx(0.5)
    assert (scores["stem"]["value"], scores["other"]["value"]) == (1.0, 0.0)
    assert scores["stem"]["n"] == 60 and scores["macro"]["n"] == 80
    assert scores["macro"]["low"] < 0.5 < scores["macro"]["high"]


def test_equal_subjects_still_have_an_interval():
    """Eight subjects that happen to score alike would get a cluster interval of no width."""
    macro = summarise_choice(choice_rows({str(i): (str(i // 2), 5) for i in range(8)}))[0]
    assert (macro["low"], macro["high"]) == pytest.approx(wilson(40, 160))


def test_unscored_widens_the_interval_upwards_only():
    """Unscored counted as wrong (or dropped) would hide that the parser, not the model, failed."""
    plain = summarise_choice(choice_rows({"a": ("stem", 5), "b": ("other", 5)}))
    gaps = summarise_choice(choice_rows({"a": ("stem", 5), "b": ("other", 5)}, unscored=6))
    for before, after in zip(plain, gaps, strict=True):
        assert after["value"] == before["value"] and after["low"] == pytest.approx(before["low"])
        assert after["high"] > before["high"] + 0.2
    assert gaps[0]["unscored"] == 12


def test_maths_reports_both_rules():
    """One number would hide how much of a gain is format-following."""
    row = {"benchmark": "maths", "model": "base"}
    rows = [row | {"strict": "unscored" if i else "correct", "lenient": "correct"} for i in range(10)]
    strict, lenient = summarise_maths(rows)
    assert (strict["value"], strict["unscored"], lenient["value"]) == (0.1, 9, 1.0)
    assert (strict["low"], lenient["low"]) == pytest.approx((wilson(1, 10)[0], wilson(10, 10)[0]))
    assert strict["high"] == 1.0


def test_instruction_levels_count_different_things():
    """Prompt level asks for all checks of a prompt, instruction level for each."""
    row = {"benchmark": "instruction_following", "model": "sft"}
    rows = [
        row | {"id": "1", "outcome": "wrong", "checks": ["correct", "wrong"]},
        row | {"id": "2", "outcome": "correct", "checks": ["correct"]},
    ]
    prompt, instruction = summarise_instruction(rows)
    assert (prompt["metric"], prompt["value"], prompt["n"]) == ("prompt", 0.5, 2)
    assert (instruction["metric"], instruction["n"]) == ("instruction", 3)
    assert instruction["value"] == pytest.approx(2 / 3)


def test_pairs_add_up():
    """A lost tie or unscored pair would inflate the win rate."""
    outcomes = ["win"] * 5 + ["tie"] * 2 + ["loss"] * 2 + ["unscored"]
    fixed = {"benchmark": "pairwise", "model_a": "dpo", "model_b": "base"}
    rows = [fixed | {"outcome": outcome} for outcome in outcomes]
    assert list(count_pairs(rows)[0].values()) == ["dpo", "base", 5, 2, 2, 9]
    rates = summarise_pairs(rows)
    assert {row["metric"]: row["value"] for row in rates} == {
        "win_rate": 0.5,
        "tie_rate": 0.2,
        "loss_rate": 0.2,
    }
    assert all((row["n"], row["unscored"]) == (10, 1) for row in rates)
    assert all(row["low"] < row["value"] < row["high"] for row in rates)


def test_paired_interval_is_newcombes_and_keeps_a_width():
    """Eleven items that both models get wrong say little of the next eleven; a bootstrap says "no difference" of them.

    The first is the paper's own example (1998, table II, method 10).
    """
    assert paired_shares(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    low, high = paired_shares(0, 0, 0, 11)
    assert low == pytest.approx(-high) and 0.25 < high < 0.27
    assert all(math.isnan(end) for end in paired_shares(0, 0, 0, 0))
    rows = [{"model": model, "id": str(i), "outcome": "wrong"} for model in ("a", "b") for i in range(11)]
    assert compare(rows, "a", "b")["low"] == pytest.approx(low)


def test_compare_pairs_by_id():
    """Comparing by position would pair different items as soon as one model skips one."""
    rows = [{"model": "sft", "id": str(i), "outcome": "correct" if i < 9 else "wrong"} for i in range(12)]
    for i in reversed(range(11)):
        rows.append({"model": "base", "id": str(i), "outcome": "correct" if i < 3 else "wrong"})
    rows += [{"model": "base", "id": "11", "outcome": "unscored"}]
    found = compare(rows, "sft", "base")
    assert found["n"] == 11 and found["difference"] == pytest.approx(6 / 11)
    assert found["p_mcnemar"] == pytest.approx(mcnemar(6, 0)) and found["low"] > 0
    with pytest.raises(KyaraError):
        compare(rows, "sft", "dpo")


def test_score_rows_survive_json():
    """Scores go through CSV, YAML and JSON; a numpy number would break the card."""
    json.dumps(summarise_choice(choice_rows({"a": ("stem", 5)})))
