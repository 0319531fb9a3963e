"""Pairs by exact checks: what is surely right, surely wrong and neither, and that no row is lost or won by length."""

import json

import pytest
from scripted import Scripted, last, text

from kyara_utils.preference.candidates import several_answers
from kyara_utils.preference.verified import draw_known, rule_lines, verified_preferences
from kyara_utils.preference.verifiers import OPEN, RIGHT, WRONG, kind_of, shown_documents, verify
from kyara_utils.synthesis.drafts import conversation
from kyara_utils.text.citation_form import NO_ANSWER

REFUSAL = NO_ANSWER["zh-Hant"]
CHUNKS = {
    "id_0000000a": {
        "id": "id_0000000a", "title": "赤道儀", "text": "赤道儀的極軸對準北極星，馬達帶著望遠鏡以地球自轉的速度轉動。",
    },
    "id_0000000b": {"id": "id_0000000b", "title": "牛軋糖", "text": "牛軋糖由蛋白、糖漿和花生製成，口感軟硬適中。"},
}  # fmt: skip


def row(source, asked, answer, lang="zh-Hant", **meta):
    return conversation(asked, answer, source, [], [], meta, lang)


SHORT = row("rag_short", "文件…\n哪一年發現天王星？", "1781年", gold="1781年", answerable=True)
FEW = row("rag_short", "文件…\n一共有幾個？", "5個", gold="5個", answerable=True)
SPAN = row("rag_short", "文件…\n從哪一年到哪一年？", "1895-1945年", gold="1895-1945年", answerable=True)
BLANK = row("rag_short", "文件…\n誰畫了這幅畫？", REFUSAL, gold="李梅樹", answerable=False)
CITED = row(
    "rag_cited", "文件…\n赤道儀的極軸對準哪裡？", "赤道儀的極軸對準北極星【id_0000000a】。",
    question="赤道儀的極軸對準哪裡？", document="id_0000000a",
    context=["id_0000000a", "id_0000000b"], answerable=True, hits=[],
)  # fmt: skip
MATHS = row("math", "小明買 3 枝筆，每枝 12 元，共多少元？", "3×12=36，答案是 36 元。", check="verified")
FORM = row("rag", "望遠鏡是做什麼的？", "望遠鏡把遠處的星光聚集起來，讓人看得更清楚。")


@pytest.mark.parametrize(
    ("known", "said", "outcome"),
    [
        (SHORT, "1781年", RIGHT),
        (SHORT, "在1781年。", RIGHT),
        (SHORT, "1871年", WRONG),  # four of five characters in common, and another number
        (SHORT, "威廉·赫雪爾", WRONG),
        (SHORT, REFUSAL, WRONG),
        (SHORT, "年", OPEN),
        (SHORT, "威廉·赫雪爾在1781年發現天王星，當時他正在自家花園裡觀測雙星。", OPEN),
        (SHORT, "一七八一年", OPEN),
        (FEW, "15個", WRONG),  # holds the gold answer by its characters
        (FEW, "5", OPEN),
        (SPAN, "1895至1945年", OPEN),  # the same numbers by another sign
        (SPAN, "1895-1946年", WRONG),
        (BLANK, REFUSAL, RIGHT),
        (BLANK, "李梅樹", WRONG),
        (BLANK, "根據文件，無法回答這個問題。", OPEN),
        (CITED, "赤道儀的極軸對準北極星【id_0000000a】。", RIGHT),
        (CITED, "赤道儀的極軸對準北極星。", WRONG),
        (CITED, "赤道儀的極軸對準北極星【id_0000000c】。", WRONG),
        (CITED, "牛軋糖由蛋白、糖漿和花生製成【id_0000000b】。", WRONG),
        (CITED, "赤道儀的極軸對準北極星[id_0000000a]。", WRONG),
        (CITED, REFUSAL, WRONG),
        (CITED, "鯨魚在海裡唱歌給同伴聽【id_0000000a】。", OPEN),  # by a threshold, so it proves nothing
        (MATHS, "12+12+12=36，答：36 元", RIGHT),
        (MATHS, "每枝 12 元，三枝就是三十六元。答案是 36.0 元。", RIGHT),
        (MATHS, "3+12=15，答案是 15 元。", WRONG),
        (MATHS, "3×12=35，答案是 36 元。", OPEN),
        (MATHS, "我想想看。", OPEN),
        (FORM, "望遠鏡把星光聚集起來。", RIGHT),
        (FORM, "望远镜把远处的星光聚集起来。", WRONG),
        (FORM, "望遠鏡把星光聚集起來，並且", OPEN),
    ],
)
def test_right_wrong_and_neither(known, said, outcome):
    """A pair is only as good as its surest side: whatever might be meant otherwise must stay open."""
    assert verify(known, said, False, CHUNKS).outcome == outcome, verify(known, said, False, CHUNKS)


@pytest.mark.parametrize("known", [SHORT, CITED, MATHS])
def test_a_right_answer_in_bad_form_is_no_model(known):
    """Chosen answers are trained towards: one that was cut, or leaks Simplified, would teach just that."""
    good = known["messages"][1]["content"]
    assert verify(known, good, False, CHUNKS).outcome == RIGHT
    assert verify(known, good, True, CHUNKS).outcome == OPEN
    assert verify(known, good + "这", False, CHUNKS).outcome != RIGHT


def test_a_cut_answer_is_wrong_in_form_alone():
    assert verify(FORM, "望遠鏡把星光聚集起來。", True, CHUNKS).outcome == WRONG
    assert verify(SHORT, "1871年", True, CHUNKS).outcome == WRONG


def test_which_rows_are_known():
    """Several rounds are sampled with one prompt, unverified sums have no surely right answer."""
    talk = {**FORM, "messages": FORM["messages"] * 2}
    unsure = row("math", "幾個？", "答案是 3。", check="unverified")
    english = row("rag", "What is it?", "A telescope.", lang="en")
    assert [kind_of(one) for one in (SHORT, CITED, MATHS, FORM, talk, unsure, english)] == [
        "short", "cited", "maths", "form", "", "", "",
    ]  # fmt: skip
    drawn = draw_known([SHORT, BLANK, CITED, MATHS, FORM, talk, unsure], 1)
    assert [kind_of(one) for one in drawn] == ["short", "cited", "maths", "form"]
    assert draw_known([SHORT], 0) == [] and len(draw_known([SHORT, BLANK], 5)) == 2
    assert draw_known([BLANK, SHORT], 1) == draw_known([SHORT, BLANK], 1), "the order of a table draws nothing"
    assert set(shown_documents([SHORT, CITED], [*CHUNKS.values(), {"id": "other"}])) == set(CHUNKS)


def answers_of(known, *said, finish="stop"):
    """A client whose n-th sample is the n-th text; seeds tell the samples apart."""
    return Scripted(lambda request: text(said[request.seed // 50], finish), dialect="chat")


def made(known, *said, own=True, finish="stop"):
    return verified_preferences(answers_of(known, *said, finish=finish), [known], CHUNKS, len(said), own)


def test_the_samples_of_a_prompt_are_asked_near_each_other():
    """With as many prompts between them as are under way at once, a server has read the prompt before."""
    client = Scripted(lambda request: text(f"{last(request)}{request.seed}"), dialect="chat", parallel=2)
    columns = several_answers(client, ["a", "b", "c", "a"], 2)
    asked = [last(request) + str(request.seed) for request in client.asked]
    assert asked == ["a0", "b0", "a50", "b50", "c0", "a0", "c50", "a50"]
    assert [[row["text"] for row in rows] for rows in columns] == [
        ["a0", "b0", "c0", "a0"],
        ["a50", "b50", "c50", "a50"],
    ]


def test_a_pair_names_its_check_and_what_was_found():
    client = answers_of(SHORT, "1871年", "1781年", "在1781年", "")
    (pair,), rejects = verified_preferences(client, [SHORT], CHUNKS, 4)
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("1781年", "1871年") and not rejects
    assert pair["source"] == "verified_short" and pair["parents"] == [SHORT["id"]] and len(pair["call_ids"]) == 2
    assert json.loads(pair["verdicts"]) == {
        "check": "short", "chosen": "gold_answer", "rejected": "another_answer", "samples": 3, "right_samples": 2,
        "wrong_samples": 1,
    }  # fmt: skip
    assert {last(request) for request in client.asked} == {SHORT["messages"][0]["content"]}


@pytest.mark.parametrize(
    ("known", "said", "own", "rule"),
    [
        (SHORT, ("1781年", "在1781年"), True, "all_right"),
        (SHORT, ("1871年", "1791年"), False, "all_wrong"),
        (SHORT, ("1781年", "年"), True, "no_contrast"),
        (SHORT, ("年", "年"), True, "no_contrast"),
        (SHORT, ("", ""), True, "no_answer"),
        (SHORT, ("1781年", "威廉·赫雪爾" * 8), True, "unlike_length"),
        ({**SHORT, "messages": [SHORT["messages"][0], {"role": "assistant", "content": "1791年"}]},
         ("1871年", "1871年"), True, "all_wrong"),  # its own answer does not pass either
    ],
)  # fmt: skip
def test_every_row_is_a_pair_or_a_reject(known, said, own, rule):
    kept, rejects = made(known, *said, own=own)
    assert not kept and [one["rule"] for one in rejects] == [rule]
    assert rule_lines(kept, rejects) == [f"verified_short: 0 pairs, 1 {rule}"]


def test_the_own_answer_stands_in_where_no_sample_is_right():
    (pair,), _ = made(SHORT, "1871年", "1791年")
    assert (pair["chosen_model"], pair["rejected_model"]) == ("reference", "scripted")
    assert pair["chosen"][0]["content"] == "1781年" and len(pair["call_ids"]) == 1
    (pair,), _ = made(SHORT, "1871年", "在1781年")
    assert pair["chosen_model"] == "scripted", "a right sample comes first: it is the model's own words"


def test_the_sides_nearest_in_length_are_taken():
    """A right answer of one length against wrong ones of another teaches the length."""
    long = "望远镜把远处的星光聚集起来，讓人看得更清楚，也讓人量出星星的位置。"
    right = "望遠鏡把遠處的星光聚集起來，讓人看得更清楚，也量出星星的位置。"
    (pair,), _ = made(FORM, "望远镜看星星。", right, long, "望遠鏡看星星。")
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("望遠鏡看星星。", "望远镜看星星。")


def test_a_cut_wrong_answer_has_no_end():
    (pair,), _ = made(MATHS, "3+12=15，答案是 15 元。", finish="length")
    assert pair["rejected_cut"] and pair["chosen_model"] == "reference"
