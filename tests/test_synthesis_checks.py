"""The reject rules of synthesis: each catches its fault, and a sound answer passes all of them."""

import pytest

from kyara_utils.llm import Response
from kyara_utils.runs import KyaraError, reject
from kyara_utils.synthesis import checks
from kyara_utils.synthesis.accounting import account, drafts_begun, metrics, one_of_each_rule, rule_rows
from kyara_utils.synthesis.drafts import conversation, examples_of, excerpt, problem_of, sentences
from kyara_utils.synthesis.overlap import near_duplicate, overlap
from kyara_utils.synthesis.question_rules import question_problem
from kyara_utils.synthesis.rag import structured
from kyara_utils.synthesis.sampling import choose_chunks
from kyara_utils.text.answer_faults import declined

DOCUMENT = (
    "玉山主峰海拔3952公尺，是台灣最高的山，位於南投、嘉義與高雄的交界，冬季積雪時山頂潔白如玉，因而得名。"
    "登山口在塔塔加，一般需要兩天往返，中途在排雲山莊過夜，須事先向國家公園申請入園。"
)
QUESTION = "台灣最高的山是哪一座？"
ANSWER = "台灣最高的山是玉山，主峰海拔3952公尺，位於南投、嘉義與高雄的交界。"


def rule(answer: str, document: str = DOCUMENT, question: str = QUESTION) -> str:
    return checks.answer_rule(
        answer, question, document, [f"玉山:{document}"], "zh-Hant", examples_of("answer", "zh-Hant")
    )[0]


def test_a_sound_answer_passes():
    """A rule that rejects good answers costs more than it saves."""
    assert rule(ANSWER) == ""


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("。。。", "only_stop_words"),
        ("是的。", "only_stop_words"),
        ("台灣最高的山是玉山。\n問題:玉山多高？", "leaked_prompt"),
        ("給定提示的答案是玉山。", "leaked_prompt"),
        ("玉山:台灣最高的山，主峰海拔3952公尺。", "leaked_prompt"),
        ("紙鈔常見的防偽方法有水印、安全線與變色油墨。", "leaked_prompt"),
        ("抱歉，我不知道最高的山是哪一座。", "refusal"),
        ("對不起，資料沒有提到。", "refusal"),
        ("台灣最高的山是玉山，主峰海拔", "truncated"),
        ("台湾最高的山是玉山，位于南投与高雄的交界。", "wrong_script"),
        ("台灣最高的山是哪一座山。", "echo"),
        (DOCUMENT, "copying"),
        (DOCUMENT[:70] + "。", "copying"),
        ("富士山是日本的第一高峰，山頂有火山口。", "unsupported"),
        ("台灣最高的山是玉山，主峰海拔3997公尺，位於南投。", "foreign_number"),
    ],
)
def test_each_fault_is_caught_by_its_rule(answer, expected):
    """The rule's name is what the funnel shows; a fault under a wrong name hides its cause."""
    assert rule(answer) == expected


def test_a_long_apology_is_no_refusal_and_a_sourced_example_is_no_leak():
    """A letter of apology is a good answer, and a corpus may speak of what our examples speak of."""
    assert declined("很抱歉造成困擾。" + "我們會在三天之內把新的商品寄到您府上，" * 5) == ""
    said = "貝多芬的第九號交響曲於1824年在維也納首演。"
    assert checks.leaked_prompt(said, examples_of("answer", "zh-Hant"))
    assert checks.leaked_prompt(said, examples_of("answer", "zh-Hant"), ["貝多芬:" + said]) == ""


def test_english_is_counted_in_words():
    """A limit in characters would let a four times longer refusal or copy through."""
    assert question_problem("Which mountain is the highest in Taiwan?", "en") == ("", "")
    assert question_problem("哪一座山最高？", "en")[0] == "not_a_question"
    assert declined("I'm sorry, but the source does not say.", "en")
    assert checks.wrong_script("Jade Mountain is the highest.", "en") == ""
    assert checks.wrong_script("玉山最高。", "en") == "zh-Hant"
    assert overlap("Jade Mountain", "The jade mountain is high.") == 1.0


@pytest.mark.parametrize(
    ("question", "good"),
    [
        ("台灣最高的山是哪一座？", True),
        ("玉山有多高?", True),
        ("玉山很高。", False),
        ("？", False),
        ("What is it?", False),
        ("很" * 80 + "？", False),
    ],
)
def test_questions(question, good):
    """A statement or a fragment as a question teaches the student to answer statements."""
    assert (question_problem(question) == ("", "")) is good


def test_near_duplicates_are_found_across_scripts():
    """The same question in the other script is the same question."""
    assert near_duplicate("台灣最高的山是哪座？", ["玉山在哪裡？", "台湾最高的山是哪一座？"])
    assert not near_duplicate("玉山在冬季為什麼積雪？", [QUESTION])


def test_unusable_answers_have_a_name():
    """A failed call must never become an empty training row."""
    assert problem_of(Response("k", error="HTTP 500")) == "call_failed"
    assert problem_of(Response("k", "", "stop")) == "empty"
    assert problem_of(Response("k", "半句", "length")) == "truncated"
    assert problem_of(Response("k", "好。", "stop")) == ""


def test_excerpts_end_with_a_sentence():
    """Half a sentence as a source makes half a sentence as an answer."""
    chunk = {"id": "id_1", "text": "第一句話。第二句話！\n第三句很長很長很長。"}
    assert excerpt(chunk, 11)["text"] == "第一句話。第二句話！"
    assert excerpt(chunk, 3)["text"] == "第一句話。"
    assert excerpt(chunk, 0) is chunk
    english = {"id": "id_2", "text": "One is 1.5 here. Two is there. Three is long."}
    assert excerpt(english, 32)["text"] == "One is 1.5 here. Two is there."
    assert sentences("甲。乙？丙") == ["甲。", "乙？", "丙"]


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        ('如下：{"山": "玉山"}', True),
        ("| 山 | 高 |\n|---|---|\n| 玉山 | 3952 |", True),
        ("玉山{最高}", False),
        ("玉山。", False),
        ("[" * 5000, False),
    ],
)
def test_structure_is_parsed_not_guessed(answer, good):
    """An evolved question that wants JSON is not answered by prose."""
    assert structured(answer) is good


def test_the_account_balances_by_stage_and_kind():
    """A reject that no stage owns, or a row without origin, would vanish from the funnel."""
    rejects = [
        reject("02", rule, {"id": str(n), "stage": stage, "kind": kind})
        for n, (stage, kind, rule) in enumerate(
            [("question", "rag", "empty"), ("checks", "rag", "copying"), ("checks", "rag_cited", "no_citation")]
        )
    ]
    begun = {"rag": 3, "rag_cited": 1, "document": 0}
    row = conversation("問？", "答。", "rag", ["id_1"], ["call"], {})
    rows = account(begun, [row], rejects).rows()
    assert [entry["rows_out"] for entry in rows if entry["source"] == "rag"] == [2, 2, 1]
    assert {"stage": "checks", "source": "rag", "rule": "copying", "rows": 1} in rule_rows(rejects)
    assert one_of_each_rule(rejects).keys() == {"empty", "copying", "no_citation"}
    with pytest.raises(AssertionError, match="passed all stages"):
        account(begun, [], rejects)
    with pytest.raises(AssertionError, match="no document"):
        account(begun, [row | {"call_ids": []}], rejects)
    with pytest.raises(ValueError, match="unknown stage"):
        account({"rag": 1}, [], [reject("02", "x", {"id": "1", "stage": "lost", "kind": "rag"})])


def test_metrics_of_a_run_without_anything():
    """An empty run must end with zeros in its manifest, not with a division or an index."""
    begun = drafts_begun([], [], 0)
    assert metrics(begun, [], [], [])["written"]["rag"] == [0, 0] and account(begun, [], []).rows()


def test_chunks_are_spread_over_topics_and_documents():
    """Drawn by chunk, one long article would be asked more than all others together."""
    long = [{"id": f"a{n}", "doc_id": "long", "topic": "x", "text": "長" * 90} for n in range(50)]
    short = [{"id": f"b{n}", "doc_id": f"d{n}", "topic": "xyz"[n % 3], "text": "短" * 90} for n in range(9)]
    asked, given, usable = choose_chunks([*long, *short, {"id": "c", "doc_id": "c", "text": "太短"}], 12, 4, 2)
    assert (len(asked), len(given), len(usable)) == (6, 4, 59)
    assert {chunk["topic"] for chunk in asked} == set("xyz") and sum(c["doc_id"] == "long" for c in asked) <= 1
    assert not {chunk["id"] for chunk in asked} & {chunk["id"] for chunk in given}
    assert choose_chunks(reversed([*long, *short]), 12, 4, 2)[0] == asked  # the order of the table does not matter
    with pytest.raises(KyaraError, match="no chunk"):
        choose_chunks([], 1, 1)
