"""Step-DPO pairs of our own rows: where a solution goes wrong, what comes before, and what stands in its place."""

import json

import pytest
from scripted import Scripted, text

from kyara_utils.models import chat_templates
from kyara_utils.preference.step_pairs import first_wrong_step, step_preferences, steps
from kyara_utils.preference.verified import draw_known, rule_lines
from kyara_utils.synthesis.drafts import conversation
from kyara_utils.training.pair_rows import is_step, prepare_pairs

ASKED = "一盒有 12 枝筆，老師買了 3 盒，用掉 7 枝，還剩幾枝？"
SOLVED = "3×12=36 枝。\n36-7=29 枝。\n答案是 29 枝。"
ROW = conversation(ASKED, SOLVED, "math", ["persona_1"], [], {"check": "verified"})
FIRST, SECOND = "3 盒共有 3×12=36 枝。\n", "用掉 7 枝，剩下 36-7=28 枝。\n"
WRONG = FIRST + SECOND + "答案是 28 枝。"
GOES_ON = "用掉 7 枝，剩下 36-7=29 枝。\n答案是 29 枝。"


@pytest.mark.parametrize(
    ("solution", "found"),
    [
        (WRONG, (FIRST, SECOND, "wrong_calculation")),
        ("3×12=38 枝，38-7=31。答案是 31 枝。", ("", "3×12=38 枝，38-7=31。", "wrong_calculation")),
        # 36 - 7 = 29 is right, and what is answered is none of the results
        (FIRST + "36-7=29。答案是 30 枝。", (FIRST + "36-7=29。", "答案是 30 枝。", "wrong_answer")),
        ("3×12=36。36+7=43。答案是 43 枝。", None),  # a wrong plan, rightly computed: nothing can be said for certain
        ("想一想就知道，答案是 30 枝。", None),
        ("先算總數。\n\n共 3×12=35。\n答案是 28。", ("", "先算總數。\n\n共 3×12=35。\n", "wrong_calculation")),
        ("重 0.5 公斤。3×0.5=1.5。\n1.5×2=4。", ("重 0.5 公斤。3×0.5=1.5。\n", "1.5×2=4。", "wrong_calculation")),
    ],
)  # fmt: skip
def test_the_first_wrong_step_is_found_by_recomputing(solution, found):
    assert first_wrong_step(ROW, solution) == found
    assert "".join(steps(solution)) == solution, "nothing of a solution is lost"


class Tokenizer:
    """A template of two marks, one token a character, and a first token of its own."""

    bos_token, bos_token_id = "^", ord("^")

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [ord(c) for c in ("^" if add_special_tokens else "") + text]}

    def apply_chat_template(self, messages, add_generation_prompt, tokenize):
        assert add_generation_prompt and not tokenize
        return "^" + "".join(f"[{m['role']}]{m['content']}[end]" for m in messages) + "[assistant]"


def made(*said, goes_on=(GOES_ON,), own=True, finish="stop", tokenizer=None):
    """Pairs and rejects of one row whose n-th sample is the n-th text, and that is gone on with in turn."""

    def reply(request):
        number = request.seed // 50
        return text(goes_on[number % len(goes_on)], finish) if request.raw else text(said[number])

    client = Scripted(reply, dialect="chat")
    return *step_preferences(client, tokenizer or Tokenizer(), [ROW], len(said), own), client


def test_a_pair_is_the_wrong_step_against_a_right_one_behind_the_same_steps():
    (pair,), rejects, client = made("3×12=36，36-7=29，答案是 29 枝。", WRONG)
    assert not rejects
    assert pair["prompt"] == [{"role": "user", "content": ASKED}, {"role": "assistant", "content": FIRST}]
    assert pair["chosen"][0]["content"] == "用掉 7 枝，剩下 36-7=29 枝。"
    assert pair["rejected"][0]["content"] == "用掉 7 枝，剩下 36-7=28 枝。"
    assert pair["step"] and pair["source"] == "step_dpo" and pair["parents"] == [ROW["id"], "persona_1"]
    assert json.loads(pair["verdicts"]) == {
        "check": "steps", "rejected": "wrong_calculation", "right_samples": 2, "samples": 2,
    }  # fmt: skip
    asked = {request.messages[0]["content"] for request in client.asked if request.raw}
    assert asked == {f"[user]{ASKED}[end][assistant]{FIRST}"}, "the turn goes on; the server adds the first token"
    assert len({request.seed for request in client.asked if request.raw}) == 2


def test_it_trains_without_an_end_of_turn():
    (pair,), _, _ = made(WRONG)
    (kept,), rejects, counts = prepare_pairs([pair], Tokenizer(), 1000)
    assert is_step(kept) and counts["step_rows"] == 1 and not rejects
    for side in ("chosen", "rejected"):
        assert "".join(map(chr, kept[f"{side}_ids"])) == pair[side][0]["content"], "no end of turn behind a step"
    head = chat_templates.begun_text(Tokenizer(), ROW["messages"][:1], FIRST)
    assert "".join(map(chr, kept["prompt_ids"])) == head


@pytest.mark.parametrize(
    ("said", "goes_on", "rule"),
    [
        (("",), (), "no_answer"),
        (("3×12=36，36-7=29，答案是 29 枝。",), (), "all_right"),
        (("3×12=37，37-7=30，改正後答案是 29 枝。",), (), "all_right"),  # arrives at it: sloppy, not surely wrong
        (("3×12=36。36+7=43。答案是 43 枝。",), (), "not_located"),
        ((WRONG,), ("剩下 36-7=30 枝。答案是 30 枝。",), "not_corrected"),
        ((WRONG,), ("剩下 36-7=27 枝。答案是 29 枝。",), "not_corrected"),  # the right answer by a wrong sum
        ((WRONG,), ("剩下 36-7=29 枝。",), "not_corrected"),
        ((WRONG,), ("剩下 36-7=29 枝。这样答案是 29 枝。",), "not_corrected"),  # Simplified
        # right before, and nothing to add; the same step, or another wrong one, taken back
        ((SOLVED + "\n再加 1，29+1=31。答案是 31 枝。",), ("",), "not_corrected"),
        ((FIRST + "36-7=29。答案是 30 枝。",), ("答案是 30 枝。\n答案是 29 枝。",), "not_corrected"),
        ((FIRST + "36-7=29。答案是 30 枝。",), ("答案是 31 枝。\n答案是 29 枝。",), "not_corrected"),
    ],
)
def test_every_row_is_a_pair_or_a_reject(said, goes_on, rule):
    kept, rejects, _ = made(*said, goes_on=goes_on)
    assert not kept and [one["rule"] for one in rejects] == [rule]
    assert rule_lines(kept, rejects) == [f"step_dpo: 0 pairs, 1 {rule}"]


def test_a_solution_that_the_limit_cut_corrects_nothing():
    kept, rejects, _ = made(WRONG, finish="length")
    assert not kept and rejects[0]["rule"] == "not_corrected"


def test_the_own_first_step_stands_in_where_nothing_is_before():
    wrong = "3×12=38 枝。\n38-7=31 枝。\n答案是 31 枝。"
    (pair,), _, _ = made(wrong, goes_on=("我不會。",))
    assert pair["prompt"] == [{"role": "user", "content": ASKED}] and pair["step"]
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("3×12=36 枝。", "3×12=38 枝。")
    assert (pair["chosen_model"], pair["rejected_model"], len(pair["call_ids"])) == ("reference", "scripted", 1)
    assert made(wrong, goes_on=("我不會。",), own=False)[1][0]["rule"] == "not_corrected"
    assert made(WRONG, goes_on=("我不會。",))[1], "behind steps of the sample the row's own do not fit"


def test_only_verified_maths_rows_are_drawn():
    unsure = conversation("幾個？", "答案是 3。", "math", [], [], {"check": "unverified"})
    other = conversation("望遠鏡是做什麼的？", "看星星。", "rag", [], [], {})
    assert draw_known([other, unsure, ROW], 5, kinds=("maths",)) == [ROW]
