"""Short answers read from documents: labels that can be checked, contexts that do not give a wrong one away."""

import json

import pytest
from scripted import Scripted, last, text

from kyara_utils.curation.duplicates import near_duplicates
from kyara_utils.curation.language import by_language
from kyara_utils.curation.quality_rules import by_quality
from kyara_utils.runs import meta
from kyara_utils.synthesis import cited_conversations
from kyara_utils.synthesis.short_answers import (
    add_readings,
    agree,
    read_pairs,
    short_conversations,
    span_of,
    write_short_answers,
)
from kyara_utils.synthesis.short_cited import cite_short_answers
from kyara_utils.text.citation_form import NO_ANSWER

BODIES = [
    "玉山是台灣最高的山，主峰海拔3952公尺。",
    "玉山在1697年首次見於記載，日治時期稱為新高山。",
    "琵琶有四條弦，抱在胸前演奏。",
]
POOL = [
    {"id": f"id_{n:08x}", "doc_id": doc, "title": title, "text": body, "position": n, "topic": ""}
    for n, (doc, title, body) in enumerate(
        zip(("doc_a", "doc_a", "doc_b"), ("玉山", "玉山", "琵琶"), BODIES, strict=True)
    )
]
PAIRS = "玉山的主峰海拔多少公尺？｜3952公尺\n台灣最高的山是哪一座？｜玉山"
NO_SPAN = "玉山的主峰海拔多少公尺？｜3952公尺\n玉山主峰的海拔比多少公尺高？｜三千公尺"


def teacher(pairs: str = PAIRS, again: str = "") -> Scripted:
    """Writes the pairs for every document; asked again it says `again`, or finds the answer that the question has."""
    golds = dict(read_pairs(pairs))

    def answer(request):
        prompt = last(request)
        if "出" in prompt and "題:" in prompt:
            return text(pairs)
        return text(again or next(gold for question, gold in golds.items() if question in prompt))

    return Scripted(answer, dialect="chat", style="brief")


@pytest.mark.parametrize(
    ("written", "pairs"),
    [
        ("甲是什麼？｜乙", [("甲是什麼？", "乙")]),
        ("1. 甲是什麼？ | 「乙」。\n2. 丙在哪裡？ → 丁", [("甲是什麼？", "乙"), ("丙在哪裡？", "丁")]),
        (
            '```json\n{"questions": [{"question": "甲是什麼？", "answer": "乙"}, {"question": "丙？"}]}\n```',
            [("甲是什麼？", "乙")],
        ),
        ("甲是什麼？", []),
        ('{"questions": 5}', []),
        ('{"questions": {"question": "甲是什麼？", "answer": "乙"}}', []),
    ],
)
def test_pairs_are_read_from_lines_and_json(written, pairs):
    assert list(read_pairs(written)) == pairs


def test_an_answer_must_be_a_piece_of_its_document_and_be_found_again():
    kept, rejects = write_short_answers(teacher(NO_SPAN), POOL[:1], wanted=2)
    assert [(draft["question"], draft["gold"]) for draft in kept] == [("玉山的主峰海拔多少公尺？", "3952公尺")]
    assert [row["rule"] for row in rejects] == ["not_a_span"]
    kept, rejects = write_short_answers(teacher(again="四條弦"), POOL[:1], wanted=2)
    assert not kept and [row["rule"] for row in rejects] == ["not_answered_again"] * 2


@pytest.mark.parametrize(
    ("pairs", "rule"),
    [
        ("玉山是什麼山？｜玉山", "answer_in_question"),
        ("", "empty"),
        ("本文提到的山是哪一座？｜玉山", "points_elsewhere"),
    ],
)
def test_bad_pairs_are_rejected_by_rule(pairs, rule):
    kept, rejects = write_short_answers(teacher(pairs), POOL[:1], wanted=1)
    assert not kept and [row["rule"] for row in rejects] == [rule]


def test_only_the_line_that_the_limit_cut_is_lost():
    def cut(written):
        client = teacher()
        answer = client.answer
        client.answer = lambda request: text(written, "length") if last(request).endswith("題:") else answer(request)
        return [draft["gold"] for draft in write_short_answers(client, POOL[:1], wanted=2)[0]]

    whole, _ = PAIRS.split("\n")
    assert cut(f"{whole}\n台灣最高的山是") == cut(f"{whole}\n台灣最高的山是哪一座？｜玉") == ["3952公尺"]


def test_a_base_model_writes_one_line_and_a_strong_one_json():
    """A base model would go on with the next document; a strong one is held to the schema."""
    asked = {}

    def answer(request):
        if not last(request).endswith("題:") and "# 任務" not in last(request):
            return text("3952公尺" if "玉山的主峰海拔" in last(request) else "玉山")
        asked["stop"], asked["schema"] = request.stop, request.schema
        pairs = [dict(zip(("question", "answer"), line.split("｜"), strict=True)) for line in PAIRS.splitlines()]
        return text(json.dumps({"questions": pairs}) if request.schema else PAIRS.splitlines()[0])

    kept, _ = write_short_answers(Scripted(answer, "completion"), POOL[:1], wanted=1)
    assert [draft["gold"] for draft in kept] == ["3952公尺"] and asked == {"stop": ("\n",), "schema": None}
    kept, _ = write_short_answers(Scripted(answer, "chat"), POOL[:1], wanted=2)
    assert [draft["gold"] for draft in kept] == ["3952公尺", "玉山"] and asked["schema"] and not asked["stop"]


def test_the_gold_answer_is_the_documents_own_piece_but_for_white_space():
    assert span_of("1988年1月", "生於 1988 年 1 月的台北") == "1988 年 1 月"
    assert span_of("1989年", "生於 1988 年") == "" == span_of(" ", "a b")
    assert span_of("17", "生於1783年") == "" == span_of("art", "a party") and span_of("art", "modern art.") == "art"


@pytest.mark.parametrize(
    ("gold", "again", "same"),
    [("1783年", "1783年", True), ("1783年", "在1783年", True), ("巴黎", "倫敦", False), ("巴黎", "", False),
     ("山", "台灣最高的山是玉山", False), ("3", "13", False), ("17", "1783年", False), ("三年", "十三年", False)],
)  # fmt: skip
def test_two_answers_agree_when_one_holds_little_more_than_the_other(gold, again, same):
    assert agree(gold, again) is same


def drafts(number: int = 8) -> list[dict]:
    kept, _ = write_short_answers(teacher(), POOL[:1], wanted=2)
    return [kept[n % 2] | {"id": f"draft_{n}", "hits": [POOL[1], POOL[2]]} for n in range(number)]


def test_no_shown_document_but_the_source_holds_the_answer():
    found = add_readings(drafts(), POOL, distractors=2, unanswerable_share=0.5, seed=3)
    assert sum(draft["answerable"] for draft in found) == 4
    for draft in found:
        holds = ["3952公尺" in item["text"] or "最高的山" in item["text"] for item in draft["context"]]
        assert any(holds) is draft["answerable"] and draft["context"]
        assert draft["answer"] == (draft["gold"] if draft["answerable"] else NO_ANSWER["zh-Hant"])
    again = add_readings(drafts(), POOL, distractors=2, unanswerable_share=0.5, seed=3)
    assert [draft["context"] for draft in again] == [draft["context"] for draft in found]
    assert any(BODIES[1] in item["text"] for draft in found for item in draft["context"] if draft["answerable"])


def test_the_filters_of_step_04_keep_short_rows_of_one_document():
    """Two rows show the same text and answer in two characters: neither is a duplicate or too short."""
    drafted = add_readings(drafts(2), POOL, distractors=0, unanswerable_share=0.0)
    rows = short_conversations(drafted, "scripted")
    assert [row["source"] for row in rows] == ["rag_short"] * 2 and meta(rows[1])["gold"] == "玉山"
    assert rows[0]["messages"][0]["content"].endswith("問題：玉山的主峰海拔多少公尺？")
    for keep in (by_language, by_quality, near_duplicates):
        rows, rejects = keep(rows)
        assert len(rows) == 2 and not rejects


SENTENCES = {"玉山的主峰海拔多少公尺？": "玉山的主峰海拔3952公尺。", "台灣最高的山是哪一座？": "台灣最高的山是玉山。"}


def test_a_share_of_short_answers_is_told_in_a_sentence_that_cites_its_known_source():
    asked = add_readings(drafts(), POOL, distractors=2, unanswerable_share=0.5, seed=3)
    client = Scripted(lambda request: text(SENTENCES[questions_in(request)]), dialect="chat", style="brief")
    assert cite_short_answers(client, asked, 1.0) == len(asked)
    for row, draft in zip(cited_conversations(asked, "scripted"), asked, strict=True):
        told = SENTENCES[draft["question"]][:-1]
        assert row["source"] == "rag_cited" and meta(row)["gold"] == draft["gold"]
        wanted = f"{told}【{POOL[0]['id']}】。" if draft["answerable"] else NO_ANSWER["zh-Hant"]
        assert row["messages"][1]["content"] == wanted and f"文件ID: {draft['context'][0]['id']}" in last_user(row)


@pytest.mark.parametrize(
    "told",
    ["玉山很高。", "玉山的主峰海拔3952公尺，比富士山高176公尺。", "玉山的主峰海拔多少公尺？3952公尺。", "",
     "好的，玉山的主峰海拔3952公尺，是許多登山客一生想去的地方。", "玉山的主峰海拔3952公尺。它很高。"],
)  # fmt: skip
def test_a_sentence_that_says_less_or_more_leaves_the_short_answer(told):
    asked = add_readings([drafts(1)[0]], POOL, distractors=1, unanswerable_share=0.0)
    assert cite_short_answers(Scripted(lambda _: text(told), dialect="chat", style="brief"), asked, 1.0) == 0
    assert asked[0]["kind"] == "rag_short" and asked[0]["answer"] == "3952公尺"


def test_both_kinds_have_their_share_of_unanswerable_rows():
    asked = add_readings(drafts(200), POOL, distractors=1, unanswerable_share=0.25)
    client = Scripted(lambda request: text(SENTENCES[questions_in(request)]), dialect="chat", style="brief")
    assert cite_short_answers(client, asked, 0.5) == 100
    without = [
        sum(not draft["answerable"] for draft in asked if draft["kind"] == kind) for kind in ("rag_short", "rag_cited")
    ]
    assert min(without) >= 15 and sum(without) == 50


def questions_in(request) -> str:
    return next(question for question in SENTENCES if question in last(request))


def last_user(row) -> str:
    return row["messages"][0]["content"]
