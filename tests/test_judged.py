"""Judge loop, verdict parsers, agreement and the statistics around judged scores."""

import json
import math
from pathlib import Path

import pytest

from kyara_utils.evaluation.judged import agreement
from kyara_utils.evaluation.judged.judgment_files import check_files, read_table
from kyara_utils.evaluation.judged.loop import fill, judge_answers
from kyara_utils.evaluation.judged.parsers import (
    arena_labels,
    parse_label,
    parse_overall,
    parse_ratings,
    parse_score,
    parse_winner,
)
from kyara_utils.llm import Request, Response
from kyara_utils.runs.errors import KyaraError
from kyara_utils.stats.intervals import (
    pearson,
    percentile_interval,
)

TRUTH = Path(__file__).parents[1].parent / "shared" / "ground_truth"
needs_truth = pytest.mark.skipif(not TRUTH.is_dir(), reason=f"no {TRUTH}")


class Judge:
    """Stands for a Client: `said(request)` gives the text of each answer; remembers what it was asked."""

    def __init__(self, said):
        self.said, self.asked = said, []

    def ask(self, requests, label=""):
        self.asked.append(list(requests))
        return [Response(f"call-{id(request)}", self.said(request)) for request in requests]


def question(text: str) -> Request:
    return Request([{"role": "user", "content": text}])


def number(response: Response) -> float | None:
    return parse_score(response.text)


def test_an_unread_verdict_is_asked_once_more_and_only_that_one():
    judge = Judge(lambda r: "[[7]]" if r.messages[0]["content"] == "clear" or r.sample else "well…")
    first, second = judge_answers(judge, [question("clear"), question("vague")], number)
    assert (first.value, second.value) == (7.0, 7.0)
    assert len(judge.asked[1]) == 1 and len(first.call_ids) == 1 and len(second.call_ids) == 2


def test_a_verdict_unread_twice_is_unscored_with_the_reason_and_never_a_number():
    (verdict,) = judge_answers(Judge(lambda r: "I cannot say."), [question("x")], number)
    assert verdict.value is None and verdict.error == "no verdict in the text"


def test_a_failed_call_is_unscored_even_when_its_text_could_be_read():
    judge = Judge(lambda r: "[[9]]")
    judge.ask = lambda requests, label="": [Response("c", "[[9]]", error="HTTP 500") for _ in requests]
    (verdict,) = judge_answers(judge, [question("x")], number)
    assert verdict.value is None and verdict.error == "HTTP 500"


def test_braces_in_answers_stay_text_and_a_missing_field_is_an_error():
    assert fill("{question} → {answer}", {"question": "{answer}", "answer": "{x}{{"}) == "{answer} → {x}{{"
    assert fill("{{'a': 1}} {b}", {"b": "{{c}}"}, doubled=True) == "{'a': 1} {{c}}"
    with pytest.raises(KyaraError, match="reference"):
        fill("{reference}", {"question": "?"})


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Good. Rating: [[8]]", 8.0),
        ("[[8.5]] rather than [[9]]", 8.5),
        ("Rating: [6]", 6.0),
        ("A list [1] of faults. Rating: [[4]]", 4.0),
        ("評分：［［７.５］］", 7.5),
        ("【【9】】", 9.0),
        ("[[評分：8/10]]", 8.0),
        ("總分 [[8 分]]", 8.0),
        ("Rating: [[8/10]]", None),
        ("參考文件【3】", None),
        ("as said in [2023]", None),
        ("[[11]]", None),
        ("eight out of ten", None),
        ("", None),
    ],
)
def test_ratings_are_read_in_both_scripts_or_left_unscored(text, score):
    assert parse_score(text) == score


def test_pair_verdicts_follow_the_reference_order():
    assert [parse_winner(text) for text in ("[[B]] not [[A]]", "［［Ｂ］］", "[[C]]", "A")] == ["A", "B", "C", None]


def test_arena_labels_that_conflict_are_no_verdict():
    assert parse_label("My final verdict: [[A>>B]]. Yes, [[A>>B]].") == "A>>B"
    assert parse_label("[[A>B]] or [[B>A]]") is None and arena_labels("[[A>B]] or [[B>A]]") == ["A>B", "B>A"]
    assert parse_label("[[A]]") is None


@pytest.mark.parametrize(
    "text",
    [
        "{'事实正确性': 9, '满足用户需求': 6, '综合得分': 7.5}",
        '先前 {"綜合得分": 2}。最後 {"事實正確性": "9", "綜合得分": "7.5"}',
        "｛‘事实正确性’：９，‘综合得分’：７.５｝",
        "{「事實正確性」：9，「綜合得分」：7.5}",
        "**綜合得分**：7.5",
        "综合得分为 7.5 分",
    ],
)
def test_overall_scores_are_read_whatever_the_script_and_quotes(text):
    assert parse_overall(text) == 7.5


def test_alignbench_dimensions_are_read_beside_the_overall():
    assert parse_ratings("{'清晰度': 8, '综合得分': 7}") == {"清晰度": 8.0, "综合得分": 7.0}
    assert parse_ratings("no score") == {} and parse_overall("{'综合得分': 12}") is None


def test_parsers_stay_quick_on_hostile_text():
    for text in ("{" * 50_000, "[[" * 50_000, "综合得分" * 20_000, "'" * 100_000, "{'a': " * 20_000):
        assert parse_score(text) is None and parse_overall(text) is None and parse_label(text) is None


def test_one_damaged_file_is_named_and_the_sound_ones_are_still_heard(tmp_path):
    (tmp_path / "bad.jsonl.gz").write_bytes(b"\x1f\x8bnonsense")
    (tmp_path / "good.jsonl").write_text('{"x": 1}\n')
    heard = []
    with pytest.raises(KyaraError, match="bad.jsonl.gz"):
        list(check_files((tmp_path, lambda name, rows: heard.append(name) or [])))
    assert heard == ["good"]
    (tmp_path / "table.csv").write_text("a,b\n1\n")
    with pytest.raises(KyaraError, match="table.csv"):
        read_table(tmp_path / "table.csv")


def row(label, forward, reverse):
    return {"label": label, "forward": forward, "reverse": reverse}


def test_agreement_counts_orders_and_unscored_games_agree_with_nobody():
    found = agreement.agreement([row(1, "1", "1"), row(1, "1", "2"), row(2, "1", "2"), row(2, None, "2")])
    assert (found["forward"], found["reverse"], found["both"], found["consistent"]) == (50, 75, 25, 25)
    assert found["average"] == 62.5 and found["low"] <= 62.5 <= found["high"]
    assert (found["flips"], found["first"], found["unscored"]) == (2, 1.0, 1)


def test_a_judge_that_follows_the_place_shows_it():
    bias = agreement.position_bias([row(1, "1", "2")] * 9 + [row(1, "2", "1")])
    assert bias["flip_rate"] == 1 and bias["first"] == 0.9 and bias["low"] > 0.6


def test_a_judge_that_likes_length_shows_it():
    long, short = "x" * 900, "x" * 90
    rows = [row(1, "1", "1") | {"output_1": long, "output_2": short}]
    rows += [row(2, "2", "2") | {"output_1": short, "output_2": long}]
    assert agreement.length_preference(rows * 5) == pytest.approx(1)


def test_kappa_is_zero_by_chance_and_one_when_always_equal():
    assert agreement.cohen_kappa("1122", "1212") == 0
    assert agreement.cohen_kappa("1122", "1122") == 1
    assert math.isnan(agreement.cohen_kappa("11", "11"))


def test_best_and_worst_reward_need_a_difference():
    assert agreement.best_and_worst([0.2, 0.5, 0.1, 0.5]) == (1, 2)
    assert agreement.best_and_worst([0.3, 0.3]) is None and agreement.best_and_worst([None, 0.3]) is None


def test_correlations_and_percentiles():
    assert pearson([1, 2, 3, math.nan], [3, 2, 1, 9]) == pytest.approx(-1) and math.isnan(pearson([1, 1], [1, 2]))
    assert percentile_interval(range(101)) == pytest.approx((2.5, 97.5)) and math.isnan(percentile_interval([])[0])


def results(forward, reverse, before=()):
    """A published record whose last result holds two games."""
    return {"label": 1, "results": [*before, {"swap = False": {"winner": forward}, "swap = True": {"winner": reverse}}]}


def judge_folder(folder, records, **published):
    """A folder of one judge's results with its published statistics."""
    place = folder / "judge_agreement"
    place.mkdir()
    (place / "j.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (place / "expected.csv").write_text(f"judge,{','.join(published)}\nj,{','.join(published.values())}\n")
    return {figure.name.split()[-1]: figure for figure in agreement.check(folder)}


def test_a_pair_unread_in_both_orders_is_equal_in_published_statistics(tmp_path):
    """LLMBar compares None with None, and its kappa knows only "answer 1" and "not": 4 of 5 equal, kappa 6/11."""
    games = [("1", "1"), ("2", "2"), (None, None), (None, None), ("1", "2")]
    found = judge_folder(
        tmp_path, [results(*game) for game in games], equal="4 / 5 = 80.0%", kappa_agreement=str(6 / 11),
        correct_both="1 / 5 = 20.0%",
    )  # fmt: skip
    assert all(figure.matches for figure in found.values()) and len(found) == 3
    ours = agreement.agreement(agreement.verdict_rows([results(*game) for game in games]))
    assert ours["consistent"] == 40 and ours["unscored"] == 2, "in our own report nothing read agrees with nobody"


def test_only_the_last_result_of_a_pair_holds_its_games(tmp_path):
    """Judges that write metrics or a reference first store them before the games; swapping judges store two rounds."""
    metrics = [["Is it correct?", "stop"]]
    first_round = [results("2", "1")["results"][0]]
    records = [results("1", "1", metrics), results("2", "1", first_round), results("1", "1")]
    found = judge_folder(tmp_path, records, correct_False="2 / 3 = 66.66666666666666%", equal="2 / 3 = 66.66666667%")
    assert all(figure.matches for figure in found.values()) and len(found) == 2


@needs_truth
def test_published_agreement_and_reward_pairs_are_reproduced():
    figures = list(agreement.check(TRUTH))
    assert figures and all(figure.matches for figure in figures)
    assert {"correct_both", "equal"} <= {figure.name.split()[-1] for figure in figures}
