"""What a GPT-4-class teacher writes: the rules must keep its good texts and still catch its bad ones.

The texts in `fixtures/` were written for this test, the answers from documents that stand beside them.
"""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from scripted import Scripted, text

from kyara_utils.llm.plan import planned_calls
from kyara_utils.runs import KyaraError
from kyara_utils.synthesis import cited, questions, retrieval, written
from kyara_utils.synthesis.checks import answer_rule, request_rule
from kyara_utils.synthesis.citations import citation_rule
from kyara_utils.synthesis.drafts import new_draft
from kyara_utils.synthesis.foreign_numbers import foreign_number
from kyara_utils.synthesis.question_rules import question_problem
from kyara_utils.synthesis.rag import structured
from kyara_utils.synthesis.styles import COMPLETION, STYLES
from kyara_utils.text.citation_form import normal_form

FIXTURES = Path(__file__).parent / "fixtures"
ENOUGH = 0.95


def load(name: str):
    return yaml.safe_load((FIXTURES / name).read_text(encoding="utf-8"))


def question_rule(said: str) -> str:
    language = "en" if said.isascii() else "zh-Hant"
    return question_problem(said, language)[0] or request_rule(said, language)[0]


def answer_rules(kind: str) -> list[tuple[str, str]]:
    return [
        (answer, answer_rule(answer, question, item["document"], [f"{item['title']}:{item['document']}"], "zh-Hant")[0])
        for item in load("strong_answers.yaml")
        for question, answer in item[kind]
    ]


@pytest.mark.parametrize("kind", ["keep", "reject"])
def test_questions_of_a_strong_teacher(kind):
    """Long requests and scenarios are questions; what points at its document is none."""
    found = {said: question_rule(said) for said in load("strong_questions.yaml")[kind]}
    wrong = [said for said, rule in found.items() if bool(rule) is (kind == "keep")]
    assert len(found) >= 40 and len(wrong) <= (1 - ENOUGH) * len(found), wrong


@pytest.mark.parametrize("kind", ["keep", "reject"])
def test_answers_of_a_strong_teacher(kind):
    """Markdown, tables, formulas and derived figures are no faults; leaks, refusals and wrong numbers are."""
    found = answer_rules(kind)
    wrong = [(answer[:60], rule) for answer, rule in found if bool(rule) is (kind == "keep")]
    assert len(found) >= 40 and len(wrong) <= (1 - ENOUGH) * len(found), wrong


def test_bad_answers_are_caught_by_rules_of_many_kinds():
    """One rule that catches everything would be a rule that catches too much."""
    rules = Counter(rule for _, rule in answer_rules("reject"))
    assert len(rules) >= 8 and max(rules.values()) <= 0.4 * rules.total(), rules


DOCUMENT = "玉山主峰海拔3952公尺，1985年成立國家公園，每年約12萬人登頂，1,500人住宿。"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("1. 海拔 3,952 公尺\n2. 國家公園\n3. 登頂", ""),
        ("步驟 1：申請。第 2 步：出發。", ""),
        ("海拔約 4000 公尺，也就是 3.952 公里。", ""),
        ("海拔３９５２公尺。", ""),
        ("海拔三千九百五十二公尺。", ""),
        ("民國 74 年成立國家公園。", ""),
        ("在 1980 年代、20 世紀成立。", ""),
        ("每年登頂 120,000 人。", ""),
        ("住宿的 1500 人占登頂人數的 1.25%。", ""),
        ("以 GPT-4 與 CO2 為例，共有 3 種做法。", ""),
        ("海拔 3998 公尺。", "3998"),
        ("1987 年成立國家公園。", "1987"),
        ("每年 35 萬人登頂。", "35 萬"),
    ],
)
def test_numbers_follow_from_the_source_or_are_foreign(answer, found):
    """A list number is no claim, a rounded or converted figure is the same claim, a wrong year is a wrong one."""
    assert foreign_number(answer, [DOCUMENT]) == found


CONTEXT = [
    {"id": "id_0000000a", "title": "玉山", "text": "玉山是台灣最高的山，主峰海拔3952公尺。"},
    {"id": "id_0000000b", "title": "水稻", "text": "水稻在清明前後插秧，大約四個月後收割。"},
]
CITED = "玉山是台灣最高的山【id_0000000a】。"


@pytest.mark.parametrize(
    "written_as",
    [
        "玉山是台灣最高的山【 id_0000000a 】。",
        "玉山是台灣最高的山【【id_0000000a】】。",
        "玉山是台灣最高的山[id_0000000a]。",
        "玉山是台灣最高的山（id_0000000a）。",
        "玉山是台灣最高的山［［id_0000000a］］。",
        "玉山是台灣最高的山【文件ID: id_0000000a】。",
        "玉山是台灣最高的山【來源：id_0000000a】。",
        "玉山是台灣最高的山 (source: id_0000000a)。".replace(" ", "", 1),
        "玉山是台灣最高的山〖ID_0000000A〗。",
        "玉山是台灣最高的山[^id_0000000a]。",
        "玉山是台灣最高的山【id_0000000a†L1-L3】。",
        "玉山是台灣最高的山\\[id_0000000a\\]。",
    ],
)
def test_citations_have_one_normal_form(written_as):
    """The student learns the form of the card, not every form that a teacher falls into."""
    ids = [item["id"] for item in CONTEXT]
    assert normal_form(written_as, ids) == CITED
    assert citation_rule(CITED, CONTEXT) == ("", "") and normal_form(CITED, ids) == CITED


def test_several_documents_in_one_bracket_become_several_citations():
    found = normal_form("兩者不同【id_0000000a、id_0000000b】。", [item["id"] for item in CONTEXT])
    assert found == "兩者不同【id_0000000a】【id_0000000b】。"


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("```\n玉山是台灣最高的山【id_0000000a】\n```", "citation_form"),
        (CITED + "\n```\n水稻【id_0000000b】\n```", "citation_form"),
        ("玉山是台灣最高的山【【id_0000000a】。", "citation_form"),
        (CITED + "詳見 id_0000000b。", "citation_form"),
        (CITED + "主峰海拔3952公尺[id_0000000c]。", "citation_form"),
        (CITED + "主峰海拔3952公尺【id_0000000c】。", "unknown_citation"),
        (CITED + "詳見[2]。", "citation_form"),
        (CITED + "水稻在清明前後插秧（文件二）。", "citation_form"),
        ("~~~\n" + CITED + "\n~~~", "citation_form"),
        ("<pre>" + CITED + "</pre>", "citation_form"),
    ],
)
def test_citations_in_any_other_form_are_rejected(answer, rule):
    """A citation that is not in the normal form after normalising cannot be checked."""
    assert citation_rule(answer, CONTEXT)[0] == rule


@pytest.mark.parametrize(
    "said",
    [
        '{"search_query": ["甲", "乙"]}',
        '```json\n{"search_query": ["甲", "乙"]}\n```',
        '好的，以下是查詢：\n{"search_query": ["甲", "乙",]}',
        "{“search_query”: [“甲”, “乙”]}",
        '{"search_query": ["甲", "乙"]}\n{"note": "完"}',
        '{"search_query": ["甲", "乙"',
        "{“search_query”：［“甲”，“乙”］}",
        '{"result": {"search_query": ["甲", "乙"]}}',
    ],
)
def test_json_is_read_in_whatever_wrapping(said):
    """Fences, prose, a trailing comma, typographic quotes, a second block and a lost end are all seen in the wild."""
    assert retrieval.read_queries(said) == ["甲", "乙"]


def test_what_is_no_json_stays_none():
    for said in ("見[1]", "[1]", "沒有", "", "{", '{"a": 1}'):
        assert written.read_object(said, "search_query") is None
    assert not structured("見[1]，也見[2]；答案是 [3, 5]。") and structured('[{"山": "玉山"}, {"山": "雪山"}]')


def test_a_strong_teacher_is_asked_for_several_questions_of_a_chunk():
    """One call gives questions of several kinds; what did not come is a counted reject, and is asked again."""
    chunk = {"id": "id_00000001", "doc_id": "d", "title": "玉山", "text": DOCUMENT, "topic": "t"}
    said = [
        '{"questions": [{"kind": "fact", "question": "玉山主峰的海拔是多少公尺？"},'
        '{"kind": "reason", "question": "本文提到的公園何時成立？"},'
        '{"kind": "procedure", "question": "請說明玉山國家公園每年登頂的人數與住宿人數。"}]}',
        '```json\n{"questions": [{"kind": "scenario", "question": "小明打算登玉山，想知道每年約有多少人登頂？"}]}\n```',
    ]
    client = Scripted(lambda request: text(said[request.sample]), dialect="chat")
    kept, rejects = questions.write_questions(client, [chunk])
    assert [draft["question_kind"] for draft in kept] == ["fact", "scenario", "procedure"]
    assert [row["rule"] for row in rejects] == ["missing_question", "missing_question"]
    assert len({draft["id"] for draft in kept}) == 3 and len(client.asked) == 2
    assert "玉山" in client.asked[0].messages[-1]["content"] and "3 個" in client.asked[1].messages[-1]["content"]


def test_a_base_model_is_held_to_one_short_question():
    """A paragraph from a model that is asked for a line is a run-on."""
    assert question_problem("請詳細說明玉山。", style=COMPLETION)[0] == "not_a_question"
    assert question_problem("玉山有多高？", style=COMPLETION) == ("", "")


@pytest.mark.parametrize("stage", ["expansion", "relevance"])
def test_a_stage_that_loses_everything_stops_with_one_line(stage):
    """Without queries or verdicts the run would go on without retrieval and say nothing."""
    hit = {"id": "id_2", "doc_id": "e", "title": "水稻", "text": "水稻。"}
    chunk = {"id": "id_1", "doc_id": "d", "title": "玉山", "text": DOCUMENT}
    drafts = [new_draft(chunk, "rag") | {"question": "玉山多高？", "hits": [dict(hit)]}]
    client = Scripted(lambda request: text("我不知道"), dialect="chat")
    with pytest.raises(KyaraError, match="nothing is left of 1") as error:
        retrieval.expand_queries(client, drafts) if stage == "expansion" else retrieval.judge_relevance(client, drafts)
    assert "\n" not in str(error.value) and "scripted" in str(error.value)


def test_questions_that_all_fail_stop_the_run():
    """Ten chunks without one usable question are a wrong set-up, and every later stage would run on nothing."""
    chunks = [{"id": f"id_{n}", "doc_id": f"d{n}", "title": "玉山", "text": DOCUMENT} for n in range(10)]
    with pytest.raises(KyaraError, match="questions: nothing is left of 10.*not_a_question"):
        questions.write_questions(Scripted(lambda request: text("不是問句")), chunks)


def test_an_endpoint_without_log_probabilities_is_taken_at_its_word():
    """Some providers give none; their 能 or 否 is a verdict all the same."""
    hits = [
        {"id": f"id_{n}", "doc_id": f"e{n}", "title": name, "text": name} for n, name in enumerate(["玉山", "水稻"])
    ]
    chunk = {"id": "id_9", "doc_id": "d", "title": "山", "text": DOCUMENT}
    drafts = [new_draft(chunk, "rag") | {"question": "多高？", "hits": hits}]
    client = Scripted(lambda request: text("能" if "玉山" in str(request.messages) else "「否」"), dialect="chat")
    (draft,), _ = retrieval.judge_relevance(client, drafts)
    assert [hit["relevant"] for hit in draft["hits"]] == [True, False]


def test_a_cited_answer_is_stored_in_the_normal_form():
    """What the student sees is the card's form, whatever brackets the teacher took."""
    chunk = CONTEXT[0] | {"doc_id": "d"}
    draft = new_draft(chunk, "rag_cited") | {"question": "台灣最高的山是哪一座？", "hits": [], "queries": []}
    draft |= {"answerable": True, "context": CONTEXT}
    (kept,), _ = cited.answer_cited(
        Scripted(lambda r: text("玉山是台灣最高的山[id_0000000a]。"), dialect="chat"), [draft]
    )
    assert kept["answer"] == CITED


def test_a_dry_run_knows_that_a_strong_teacher_writes_more():
    """An estimate in the tokens of a one-line model would be off by a factor of ten in money."""
    table = [
        {"model": "model", "stage": "a", "per": [2], "tokens": {"completion": [5, 1], "brief": [6, 2], "full": [9, 8]}}
    ]
    sizes = {
        name: (planned.prompt_tokens, planned.completion_tokens)
        for name in ("gemma-3-270m", "qwen-0.5b", "gpt-4o")
        for planned in planned_calls(table, {"model": name}, lambda step, output: None)
    }
    assert sizes == {"gemma-3-270m": (5, 1), "qwen-0.5b": (6, 2), "gpt-4o": (9, 8)}


def test_a_small_chat_model_gets_worked_examples_and_two_lines_to_write():
    """Told zero-shot, half a billion parameters write fragments; with examples they write questions."""
    chunk = {"id": "id_00000001", "doc_id": "d", "title": "玉山", "text": DOCUMENT, "topic": "t"}
    client = Scripted(
        lambda request: text("1. 玉山主峰的海拔是多少公尺？\n2. 通車典禮？"), dialect="chat", style="brief"
    )
    kept, rejects = questions.write_questions(client, [chunk], attempts=1)
    assert [draft["question"] for draft in kept] == ["玉山主峰的海拔是多少公尺？"]
    assert [row["rule"] for row in rejects] == ["not_a_question"]
    assert [message["role"] for message in client.asked[0].messages].count("assistant") >= 3


def test_a_small_chat_model_cites_by_titles():
    """It copies a title more surely than eight hex digits; no log-probability of a half-written turn is asked."""
    chunk = CONTEXT[0] | {"doc_id": "d"}
    draft = new_draft(chunk, "rag_cited") | {"question": "台灣最高的山是哪一座？", "hits": [], "queries": []}
    draft |= {"answerable": True, "context": CONTEXT}
    client = Scripted(lambda request: text("台灣最高的山是玉山。【玉山】"), dialect="chat", style="brief")
    (kept,), _ = cited.answer_cited(client, [draft])
    assert kept["answer"] == "台灣最高的山是玉山【id_0000000a】。" and len(client.asked) == 1


def test_every_style_has_every_task():
    """A task that one style lacks would fail hours into a run with that teacher."""
    assert len({frozenset(style.tasks) for style in STYLES.values()}) == 1 and set(STYLES) == {
        "completion",
        "brief",
        "full",
    }
    assert all(task.max_tokens == 1 or task.temperatures for style in STYLES.values() for task in style.tasks.values())
