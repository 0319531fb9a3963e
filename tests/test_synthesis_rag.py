"""Questions, evolution, retrieval, answers and further rounds with a scripted model: what each stage keeps and why."""

import json
import re
from types import SimpleNamespace

import pytest
from scripted import Scripted, last, text

from kyara_utils.llm import load_prompt
from kyara_utils.runs import meta
from kyara_utils.runs.tables import turns
from kyara_utils.synthesis import evolve, followups, questions, rag, retrieval
from kyara_utils.synthesis.drafts import new_draft
from kyara_utils.synthesis.styles import STYLES

MATHS = ("problem", "solution", "solution_check")  # step 03 writes Traditional Chinese only
PROMPTS = sorted({t.prompt for style in STYLES.values() for name, t in style.tasks.items() if name not in MATHS})


def chunk(number: int, body: str = "") -> dict:
    return {
        "id": f"id_{number:08x}", "doc_id": f"doc_{number}", "title": f"題{number}",
        "text": body or f"第{number}段內容。", "topic": "t",
    }  # fmt: skip


def draft(question: str = "台灣最高的山是哪一座？", body: str = "玉山是台灣最高的山，冬季積雪，山頂潔白如玉。") -> dict:
    found = {"queries": [], "hits": [], "digests": []}
    return new_draft(chunk(1, body), "rag") | {"question": question} | found


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_has_an_english_version_with_the_same_inputs(name):
    """A run in English must not fail at its fourth stage."""
    chinese, english = load_prompt(f"synthesis/{name}"), load_prompt(f"synthesis/{name}", "en")
    assert (chinese.inputs, len(chinese.stop)) == (english.inputs, len(english.stop))
    assert (chinese.language, english.language) == ("zh-Hant", "en")
    assert isinstance(english.version, int) and english.id != chinese.id


def test_questions_are_unique_and_accounted_for():
    """The same question from two chunks would be trained on twice."""
    client = Scripted(lambda request: text("內容是什麼？" if "第1段" not in last(request) else "不是問句"))
    drafts, rejects = questions.write_questions(client, [chunk(number) for number in range(3)])
    assert len(drafts) == 1 and sorted(row["rule"] for row in rejects) == ["duplicate_question", "not_a_question"]
    assert {json.loads(row["row"])["stage"] for row in rejects} == {"question"}


def test_near_duplicate_questions_are_rejected_within_one_document_only():
    """Two chunks of one article lead to one question; two articles may be asked alike."""
    said = {"甲段": "玉山的主峰海拔有多高？", "乙段": "玉山主峰的海拔有多高？"}
    client = Scripted(lambda request: text(next(q for mark, q in said.items() if mark in last(request))))
    one, two = (chunk(n, f"{mark}玉山主峰海拔很高。") for n, mark in enumerate(said))
    assert len(questions.write_questions(client, [one, two])[0]) == 2
    kept, rejects = questions.write_questions(client, [one, two | {"doc_id": "doc_0"}])
    assert len(kept) == 1 and [row["rule"] for row in rejects] == ["near_duplicate_question"]


def test_a_share_of_the_drafts_is_for_cited_answers():
    """Kinds are drawn by seed before any call, so that the funnel can follow each from its start."""
    client = Scripted(lambda request: text(f"{last(request).splitlines()[0][-7:-1]}是什麼？"))
    drafts, _ = questions.write_questions(client, [chunk(number) for number in range(10)], cited_share=0.3)
    assert sum(row["kind"] == "rag_cited" for row in drafts) == 3


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("請一步一步分析，台灣最高的山是哪一座？", ""),
        ("台灣最高的山是哪一座？", "no_gain"),
        ("抱歉，我無法改寫。", "refusal"),
        ("？！", "only_stop_words"),
        ("改寫提示:台灣最高的山是哪一座？", "leaked_prompt"),
        ("貓為什麼喜歡曬太陽？", "lost_subject"),
        ("請把籠統的說法換成具體的，台灣最高的山是哪一座？", "leaked_prompt"),
        ("請一步一步分析，台湾最高的山位于哪里？", "wrong_script"),
    ],
)
def test_failed_evolutions_leave_the_question_as_it_was(answer, rule):
    """Evol-Instruct returns failed evolutions unchanged to the pool; none may lose a question."""
    (tried,) = [draft()]
    labels = [{"同": -3.0, "異": -0.1}]
    same = [{"同": -0.1, "異": -3.0}]

    def reply(request):
        if request.top_logprobs:
            first, second = (line.partition(":")[2] for line in last(request).splitlines()[:2])
            return text("異", logprobs=same if first == second else labels)
        return text(answer)

    evolve.evolve_questions(Scripted(reply), [tried], 1.0, seed=0)
    assert tried["evolution"]["rule"] == rule
    assert tried["question"] == (tried["evolution"]["question"] if rule else answer)
    assert evolve.evolved(tried) is (rule == "")


@pytest.mark.parametrize("logprobs", [[{"同": -0.1, "異": -3.0}], []])
def test_an_evolution_judged_equal_fails_with_and_without_logprobs(logprobs):
    """Some endpoints give no log-probabilities; their text must then decide."""
    reply = Scripted(
        lambda r: text("同", logprobs=logprobs) if r.top_logprobs else text("請分析台灣最高的山是哪一座？")
    )
    tried = evolve.evolve_questions(reply, [draft()], 1.0, seed=3)
    assert tried[0]["evolution"]["rule"] == "judged_equal"


def test_kyaras_and_wizardlms_directions_exist_in_both_languages():
    """A direction that one language lacks would be drawn there and fail."""
    assert set(evolve.DIRECTIONS["zh-Hant"]) == set(evolve.DIRECTIONS["en"])
    assert {"related", "steps", "structured", "story", "breadth", "reasoning"} <= set(evolve.DIRECTIONS["en"])


def test_queries_that_are_not_json_are_no_queries():
    """One malformed expansion must cost the expansion, not the row."""
    assert retrieval.read_queries('{"search_query":["a","a","b",3," "]}') == ["a", "b"]
    assert retrieval.read_queries('{"search_query":"a"}') == ["a"]
    for bad in ("", "[]", '{"search_query":3}', '{"x":1}', "{"):
        assert retrieval.read_queries(bad) == []


def test_relevance_threshold_comes_from_known_irrelevant_pairs():
    """Small models say 能 to everything; only what beats unrelated documents counts."""
    hits = [{"id": "id_1", "title": "好", "text": "相關"}, {"id": "id_2", "title": "壞", "text": "離題"}]
    drafts = [
        new_draft(chunk(n), "rag") | {"question": "問題？", "hits": [dict(hit) for hit in hits]} for n in range(4)
    ]

    def reply(request):
        return text("能", logprobs=[{"能": -0.2, "否": -3.0 if "相關" in last(request) else -0.5}])

    found, threshold = retrieval.judge_relevance(Scripted(reply), drafts, controls=4)
    assert threshold == pytest.approx(0.3)
    assert [hit["relevant"] for hit in found[0]["hits"]] == [True, False]
    assert len(found[0]["calls"]) == 2 and found[0]["prompts"] == ["synthesis/relevance@1"]


def test_without_the_gate_every_hit_is_relevant_and_nothing_is_asked():
    silent = Scripted(lambda request: 1 / 0)
    (draft,), threshold = retrieval.judge_relevance(silent, [{"hits": [{"id": "id_1"}]}], gate=False)
    assert draft["hits"] == [{"id": "id_1", "relevance": None, "relevant": True}]
    assert not silent.asked and threshold == 0.0


def test_retrieval_leaves_the_source_out_and_fuses():
    """A question answered from the chunk it was made of would retrieve that chunk first, and prove nothing."""
    index = SimpleNamespace(
        search_many=lambda queries, k: [
            [
                SimpleNamespace(chunk_id=f"id_{n:08x}", title="t", text="一句。二句。", doc_id="d")
                for n in ((0, 1, 2) if query == "q" else (2, 0, 3))
            ]
            for query in queries
        ]
    )
    (found,) = retrieval.retrieve(index, [{"chunk": chunk(0), "question": "q", "queries": ["other"]}], 2, 3)
    assert [hit["id"] for hit in found["hits"]] == ["id_00000002", "id_00000001"]
    assert found["hits"][0]["text"] == "一句。"


def test_answers_are_accepted_or_rejected_by_rule_and_carry_their_path():
    """Rows in = rows out + rejects, and a training row must say where it came from."""
    said = {"哪一座": "台灣最高的山是玉山，冬季會積雪。", "多高": "富士山高3776公尺。"}
    client = Scripted(lambda request: text(next(a for mark, a in said.items() if mark in last(request))))
    accepted, rejects = rag.answer_questions(client, [draft(), draft("玉山到底有多高？")])
    assert [row["rule"] for row in rejects] == ["unsupported"]
    (row,) = rag.rag_conversations(accepted, "m")
    assert row["source"] == "rag" and row["lang"] == "zh-Hant" and row["parents"] == ["id_00000001"]
    assert meta(row)["prompts"] == ["synthesis/answer@3"] and "copying" in meta(row)["checks"]


def test_a_chat_model_is_asked_for_a_detailed_answer():
    """Worked examples of one line would teach a strong teacher to answer in one line."""
    client = Scripted(lambda request: text("台灣最高的山是玉山。\n\n冬季積雪，山頂潔白如玉。"), dialect="chat")
    accepted, _ = rag.answer_questions(client, [draft()])
    assert len(accepted) == 1 and accepted[0]["prompts"] == ["synthesis/answer_detailed@2"]
    assert not client.asked[0].stop and client.asked[0].max_tokens > 500 and client.asked[0].temperature == 0.0


def test_a_refused_evolution_is_answered_in_its_first_form():
    """WizardLM: a refusal shows that the evolved question was too much; the plain one is still good."""
    tried = draft("請用五個步驟分析台灣最高的山是哪一座？")
    tried["evolution"] = {"direction": "steps", "question": "台灣最高的山是哪一座？", "tried": "", "rule": ""}
    client = Scripted(lambda r: text("抱歉，我不會。" if "五個" in last(r) else "台灣最高的山是玉山，冬季會積雪。"))
    accepted, rejects = rag.answer_questions(client, [tried])
    assert not rejects and accepted[0]["question"] == "台灣最高的山是哪一座？"
    assert accepted[0]["evolution"]["rule"] == "refusal" and len(accepted[0]["calls"]) == 2


def test_rounds_are_added_until_one_fails():
    """A failed third round must not cost the two good ones, and must be on record."""
    started = draft() | {"answer": "台灣最高的山是玉山。"}

    def reply(request):
        shown = last(request)
        if shown.endswith("追問:"):
            return text("玉山在冬季看起來像什麼？" if shown.count("問題:") == 1 else "台灣最高的山是哪一座呢？")
        return text("冬季積雪的時候，玉山的山頂潔白如玉。")

    assert followups.add_rounds(Scripted(reply), [started], 3) == 1
    (row,) = rag.rag_conversations([started], "m")
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * 2
    assert row["source"] == "followup" and meta(row)["rounds"] == 2
    assert turns(row, "assistant")[-1].startswith("冬季")
    assert [tried["rule"] for tried in meta(row)["followup"]["tried"]] == ["", "near_duplicate_question"]


def test_a_run_in_english_keeps_english():
    """Every stage takes the language; one that forgets it would mix Chinese prompts into an English run."""
    body = "Jade Mountain is the highest mountain in Taiwan. Its main peak reaches 3952 metres above the sea."

    def reply(request):
        assert not re.search(r"[\u4e00-\u9fff]", last(request))
        ends = last(request).splitlines()[-1]
        said = {"Question:": "How high is the main peak of Jade Mountain?", "Answer:": "It reaches 3952 metres."}
        return text('{"search_query":["peak"]}' if ends == "Search:" else said[ends])

    client = Scripted(reply)
    source = chunk(1, body) | {"title": "Jade Mountain"}
    asked, rejects = questions.write_questions(client, [source], language="en")
    assert not rejects
    retrieval.expand_queries(client, asked, language="en")
    accepted, faulty = rag.answer_questions(client, [asked[0] | {"hits": [], "digests": []}], language="en")
    (row,) = rag.rag_conversations(accepted, "m", "en")
    assert not faulty and row["lang"] == "en" and meta(row)["queries"] == ["peak"]
    assert meta(row)["prompts"][0] == "synthesis/question.en@1"
