"""Judging and pairing: a verdict that follows the position must never become a preference."""

import pytest

from kyara_utils.llm.client import Response
from kyara_utils.preference import (
    Pair,
    form_pairs,
    judge_pairs,
    judge_rows,
    judge_summary,
    known_pairs,
    mix,
    rlaif_preferences,
    spin_preferences,
)
from kyara_utils.preference.judge import outcome_of, read_verdict

PAIRS = [Pair(f"p{number}", "問題", f"好答案{number}", f"壞答案{number}") for number in range(6)]


class Judge:
    """A scripted judge: `judge(first, second)` gives log P(A) − log P(B), or the text of a judgement."""

    def __init__(self, judge):
        self.judge = judge

    def ask(self, requests, label="", progress=True, **checks):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        prompt = request.messages[0]["content"]
        first = prompt.split("Assistant A’s Answer]**\n")[1].split("\n---")[0]
        second = prompt.split("Assistant B’s Answer]**\n")[1].split("\n---")[0]
        said = self.judge(first, second)
        if isinstance(said, str):
            return Response("k", said, "stop")
        return Response("k", "A", "length", [{"A": said / 2 - 1, "B": -said / 2 - 1}])


def answer(model, prompt, text="x", error=""):
    return {
        "model": model,
        "prompt": prompt,
        "text": text,
        "call_id": f"call_{model}",
        "finish_reason": "stop",
        "error": error,
    }


@pytest.mark.parametrize("bias", [0.0, 1.0, 8.0])
def test_position_bias_is_cancelled(bias):
    """Small judges like one position far more than one answer; with order swapped and centred the answer decides."""
    verdicts = judge_pairs(Judge(lambda one, two: bias + (1 if "好" in one else -1)), PAIRS, "logprob")
    assert [verdict.outcome for verdict in verdicts] == ["first"] * 6


def test_a_judge_that_sees_only_position_gives_no_preference():
    """Pure position bias must yield nothing at all, rather than noise labelled as preference."""
    by_text = judge_pairs(Judge(lambda one, two: "reasoning [[A]]"), PAIRS, "text")
    assert {verdict.outcome for verdict in by_text} == {"inconsistent"}
    assert judge_summary(by_text) == {
        "consistent": 0.0, "inconsistent": 1.0, "tie": 0.0, "unscored": 0.0, "first_shown": 1.0,
    }  # fmt: skip
    by_logprob = judge_pairs(Judge(lambda one, two: 3.0), PAIRS, "logprob")
    assert not any(verdict.outcome in ("first", "second") for verdict in by_logprob)


def test_the_last_tag_counts():
    """Judges quote "[[A]]" while reasoning; FastChat's substring order would count the quote."""
    assert read_verdict('I must write "[[A]]" or "[[B]]". B is right. [[B]]') == "B"
    assert read_verdict("no verdict") == ""


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("【【A】】", "A"),
        ("［［Ａ］］", "A"),
        (r"\[\[A\]\]", "A"),
        ("[[ C ]]", "C"),
        ("[[**B**]]", "B"),
        ("[[A]] or [[B]]", ""),
        ("[[B]]\n\n- [[A]]：助理A較好\n- [[B]]：助理B較好\n- [[C]]：平手", "B"),
        ("[[A]]: A is better\n[[B]]: B is better", ""),
        ("First I thought [[A]]. But the verdict is [[B]].", "B"),
        ("[[D]] [A] [[a]]", ""),
    ],
)
def test_a_list_of_the_choices_chooses_none(said, verdict):
    """Judges end with a key to the tags, and write the brackets of their keyboard."""
    assert read_verdict(said) == verdict


@pytest.mark.parametrize(
    ("forward", "reverse", "outcome"),
    [
        ("A", "A", "first"),
        ("B", "B", "second"),
        ("A", "B", "inconsistent"),
        ("C", "A", "tie"),
        ("C", "C", "tie"),
        ("", "", "unscored"),
    ],
)
def test_outcomes(forward, reverse, outcome):
    """`reverse` is already in the forward order's terms."""
    assert outcome_of(forward, reverse) == outcome


def test_pairs_balance_and_preferences_point_the_right_way():
    """Rows in = rows out + rejects; the chosen answer is the one that the judge preferred, whichever came first."""
    answers = [answer(m, p, f"{'好' if m == 'a' else '壞'}{p}") for p in ("p", "q", "r") for m in ("a", "b")]
    answers += [answer("c", "p", error="HTTP 500"), answer("c", "q", "")]
    pairs, rejects = form_pairs(answers, per_prompt=2, seed=3)
    assert len(pairs) == 3 and sorted(row["rule"] for row in rejects) == ["call_failed", "empty"]
    verdicts = judge_pairs(Judge(lambda one, two: 2 if "好" in one else -2), [pair for pair, _, _ in pairs], "logprob")
    kept, rejected = rlaif_preferences(pairs, verdicts, "j", {pair.prompt: ["conv_1"] for pair, _, _ in pairs})
    assert len(kept) == 3 and not rejected
    assert {row["chosen_model"] for row in kept} == {"a"} and all(row["verdicts"] for row in kept)
    assert all(row["parents"] == ["conv_1"] for row in kept)
    rows = judge_rows(pairs, verdicts)
    assert {row["outcome"] for row in rows} == {"chosen"} and rows[0]["chosen_length"] == len(
        kept[0]["chosen"][0]["content"]
    )


def test_a_cut_answer_is_never_chosen():
    """Preferring an answer that the token limit cut teaches the model to run on."""
    answers = [answer("a", "p", "好p") | {"finish_reason": "length"}, answer("b", "p", "壞p")]
    pairs, _ = form_pairs(answers)
    verdicts = judge_pairs(Judge(lambda one, two: 2 if "好" in one else -2), [pair for pair, _, _ in pairs], "logprob")
    kept, rejected = rlaif_preferences(pairs, verdicts, "j", {pair.prompt: ["conv_1"] for pair, _, _ in pairs})
    assert not kept and [row["rule"] for row in rejected] == ["chosen_truncated"]


def test_known_pairs_are_at_chance_for_a_judge_who_always_says_first():
    """An answer against the answer to another question, the right one first in every other pair."""
    tests = known_pairs([(f"問{number}", f"好答案{number}") for number in range(4)])
    assert [test.label for test in tests] == ["first", "second", "first", "second"]
    right = [test.pair.first if test.label == "first" else test.pair.second for test in tests]
    assert right == [f"好答案{number}" for number in range(4)]
    assert known_pairs([("問", "答")]) == [] == known_pairs([("問", "答"), ("再問", "答 ")])


def test_spin_prefers_the_data_to_the_model():
    """chosen = training answer, rejected = the model's own; equal texts teach nothing."""
    rows = [
        {"id": f"c{n}", "messages": [{"role": "user", "content": "問"}, {"role": "assistant", "content": f"答{n}"}]}
        for n in (1, 2)
    ]
    rows[0]["messages"] += [{"role": "user", "content": "再問"}, {"role": "assistant", "content": "再答"}]
    kept, rejects = spin_preferences(rows, [answer("sft", "問", "別的"), answer("sft", "問", "答2")])
    assert kept[0]["chosen"][0]["content"] == "答1" and kept[0]["rejected"][0]["content"] == "別的"
    assert [row["rule"] for row in rejects] == ["same_text"]
    both, repeated = mix([kept, kept])
    assert len(both) == 1 and repeated[0]["rule"] == "duplicate_pair"
