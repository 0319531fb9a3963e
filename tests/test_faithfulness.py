"""Faithfulness: statements out of an answer, false ones by construction, a scale read off them, rejection by it."""

import random

import pytest
import yaml
from scripted import Scripted, last, text
from test_strong_teacher import FIXTURES

import kyara_utils
from kyara_utils.synthesis import faithfulness
from kyara_utils.synthesis.corruption import corrupted
from kyara_utils.synthesis.drafts import new_draft
from kyara_utils.synthesis.faithfulness import Calibration, calibrate, check_faithfulness, judge_faithfulness, measure

CHUNKS = [
    {"id": f"id_{n}", "doc_id": f"d{n}", "title": title, "text": body}
    for n, (title, body) in enumerate(
        [
            (
                "積體電路",
                "1958年基爾比做出第一個積體電路的雛形。他在2000年獲得諾貝爾物理學獎，電晶體的數目之後逐年增加。",
            ),
            ("玉山", "玉山主峰海拔3952公尺，是台灣最高的山。每年大約有12000人在夏季登頂，人數比冬季多。"),
        ]
    )
]
SCALE = Calibration(threshold=0.0, auc=0.9, pairs=8)


def test_an_answer_is_split_into_statements():
    """Headings, code and table rules state nothing; list items and table rows do."""
    answer = (
        "# 摘要\n玉山很高，海拔3952公尺【id_1】。**冬天**會下雪，山頂變白。\n\n重點如下：\n1. 登山口在塔塔加一帶\n"
        "- 往返大約需要兩天\n"
        "| 年份 | 事件 |\n|---|---|\n| 1985 年 | 國家公園成立 |\n```python\nprint('不是敘述，是程式')\n```"
    )
    assert faithfulness.statements(answer) == [
        "玉山很高，海拔3952公尺 。",
        "冬天會下雪，山頂變白。",
        "登山口在塔塔加一帶",
        "往返大約需要兩天",
        "1985 年，國家公園成立",
    ]
    assert len(faithfulness.statements("這是一個夠長的句子。" * 50)) == faithfulness.MOST


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [("基爾比在1958年做出雛形。", "number"), ("產量約175萬公噸。", "number"), ("面積逐年增加。", "relation")],
)
def test_corrupted_sentences_differ_in_one_place(sentence, kind):
    """A control that is still true would teach the scale nonsense."""
    for seed in range(20):
        false, way = corrupted(sentence, [], random.Random(seed))
        assert false != sentence and way == kind
        if kind == "number":
            assert faithfulness.re.sub(r"[\d,.]+", "#", false) == faithfulness.re.sub(r"[\d,.]+", "#", sentence)
    assert corrupted("他很好。", [], random.Random(0)) == ("", "")
    assert corrupted("作者是 Alan Turing。", ["作者是 Grace Hopper。"], random.Random(0)) == (
        "作者是 Grace Hopper。",
        "name",
    )


def test_the_scale_separates_known_true_from_known_false():
    """Threshold, precision, recall and AUC are those of the verdict 'unsupported'."""
    found = measure([2.0, 1.0, 0.5, -1.0], [-2.0, -3.0, 0.0, -0.5])
    assert (found.threshold, found.recall, found.precision) == (0.25, 1.0, 0.8)
    assert found.auc == pytest.approx(14 / 16, abs=1e-3) and found.useful
    assert not measure([1.0, 0.0], [1.0, 0.0]).useful and not measure([], [1.0]).useful
    assert measure([None, 2.0], [None, 1.0]).pairs == 1


def judge(mark: str, dialect: str = "chat") -> Scripted:
    """A model that calls a statement false when it holds `mark`, or is none of the documents' sentences."""

    def reply(request):
        statement = last(request).split("# 敘述\n")[-1].split("\n")[0]
        bad = mark in statement if mark else not any(statement in chunk["text"] for chunk in CHUNKS)
        return text("錯" if bad else "對", logprobs=[{"錯": -0.1, "對": -4.0} if bad else {"對": -0.1, "錯": -4.0}])

    return Scripted(reply, dialect=dialect)


def test_calibration_asks_true_and_corrupted_sentences_in_pairs():
    client = judge("")
    found = calibrate(client, CHUNKS, pairs=2)
    assert (found.auc, found.pairs, found.recall, found.precision) == (1.0, 2, 1.0, 1.0) and len(client.asked) == 4


def draft(answer: str, rounds=()) -> dict:
    said = {"question": "問？", "answer": answer, "rounds": list(rounds), "digests": [], "hits": [], "queries": []}
    return new_draft(CHUNKS[0], "rag") | said


def test_an_unfaithful_answer_is_a_reject_and_a_later_round_ends_the_conversation():
    """Kilby's prize in 1971: every word stands in the document, the statement is false."""
    wrong = "基爾比在1971年獲得諾貝爾獎。"
    right = "基爾比做出第一個積體電路的雛形。"
    later = [(f"問{number}？", said) for number, said in ((2, right), (3, wrong), (4, right))]
    drafts = [draft(wrong), draft(right + wrong), draft(right, later)]
    drafts[1]["id"], drafts[2]["id"] = "b", "c"
    kept, rejects = judge_faithfulness(judge("1971"), drafts, SCALE, most=0.5)
    assert [item["id"] for item in kept] == ["b", "c"] and [row["rule"] for row in rejects] == ["unfaithful"]
    assert kept[0]["unsupported"] == [0.5] and kept[1]["unsupported"] == [0.0, 0.0, 1.0, 0.0]
    assert [question for question, _ in kept[1]["rounds"]] == ["問2？"] and "1971" in rejects[0]["detail"]


def test_a_judge_that_guesses_rejects_nothing():
    """Near chance its rejections are noise; the shares stay on record all the same."""
    guess = Calibration(threshold=0.0, auc=0.55, pairs=8)
    kept, rejects = judge_faithfulness(judge("1971"), [draft("基爾比在1971年得到諾貝爾獎。")], guess, most=0.1)
    assert not rejects and kept[0]["unsupported"] == [1.0]


def test_the_check_costs_nothing_when_it_is_off_and_reports_when_it_is_on():
    client = judge("1971")
    assert check_faithfulness(client, [draft("好的答案。")], CHUNKS, 1.0) == ([draft("好的答案。")], [], {})
    assert not client.asked
    _, rejects, said = check_faithfulness(judge(""), [draft("基爾比在1971年得到諾貝爾獎。")], CHUNKS, 0.3)
    assert len(rejects) == 1 and said["faithfulness"]["useful"] and said["unsupported"] == 1.0


def test_the_statements_for_measuring_are_sixty_and_balanced():
    """The bench divides by them; an article that is gone would silently shrink the measurement."""
    groups = yaml.safe_load((FIXTURES / "faithfulness.yaml").read_text(encoding="utf-8"))
    corpus = faithfulness_corpus()
    assert all((corpus / group["document"]).is_file() for group in groups)
    assert [sum(len(group[kind]) for group in groups) for kind in ("sound", "corrupted")] == [30, 30]


def faithfulness_corpus():
    from pathlib import Path

    return Path(kyara_utils.__file__).parent / "data" / "corpus"
