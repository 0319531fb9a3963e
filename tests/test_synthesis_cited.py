"""Cited answers: the card's format, distractors that are none of the source, and citations that hold."""

import pytest
from scripted import Scripted, text

from kyara_utils.runs import meta, question
from kyara_utils.synthesis import citations, cited
from kyara_utils.synthesis.drafts import new_draft

BODIES = {
    1: "玉山是台灣最高的山，主峰海拔3952公尺。",
    2: "水稻在清明前後插秧，大約四個月後收割。",
    3: "琵琶有四條弦，演奏時抱在胸前。",
    4: "地震規模每增加一，能量約增為三十二倍。",
    5: "珊瑚在水溫過高時會排出共生藻而白化。",
}
TITLES = {1: "玉山", 2: "水稻", 3: "琵琶", 4: "地震", 5: "珊瑚"}
POOL = [{"id": f"id_{n:08x}", "doc_id": f"doc_{n}", "title": TITLES[n], "text": text} for n, text in BODIES.items()]
GOOD = "台灣最高的山是玉山【id_00000001】。主峰海拔3952公尺【id_00000001】。"


def drafts(number: int = 4) -> list[dict]:
    asked = {"question": "台灣最高的山是哪一座？", "hits": [], "queries": []}
    return [new_draft(POOL[0], "rag_cited") | asked | {"id": f"draft_{n}"} for n in range(number)]


def context(*numbers: int) -> list[dict]:
    return [{key: POOL[n - 1][key] for key in ("id", "title", "text")} for n in numbers]


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (GOOD, ""),
        ("玉山是台灣最高的山【id_00000001】【id_00000001】。", ""),
        ("玉山是台灣最高的山。", "no_citation"),
        ("玉山是台灣最高的山【id_0000000f】。", "unknown_citation"),
        ("玉山是台灣最高的山【id_00000002】。", "unsupported_citation"),
        ("玉山是台灣最高的山【id_00000001】【id_00000002】。", "unsupported_citation"),
        ("琵琶是日本的樂器，有十六種調弦法【id_00000003】。", "unsupported_citation"),
        ("【id_00000001】玉山是台灣最高的山。", "unsupported_citation"),
    ],
)
def test_citations_must_exist_and_be_supported(answer, rule):
    """A citation that looks right and proves nothing is worse than none."""
    assert citations.citation_rule(answer, context(1, 2, 3))[0] == rule


def test_contexts_hold_the_source_or_nothing_of_it():
    """An unanswerable row whose documents answer it would teach the student to refuse."""
    found = cited.add_contexts(drafts(8), POOL, distractors=2, unanswerable_share=0.5, seed=1)
    assert sum(draft["answerable"] for draft in found) == 4
    for draft in found:
        ids = [item["id"] for item in draft["context"]]
        assert len(ids) == len(set(ids)) == 3
        assert (POOL[0]["id"] in ids) is draft["answerable"]
    assert len({draft["context"].index(context(1)[0]) for draft in found if draft["answerable"]}) > 1
    again = cited.add_contexts(drafts(8), POOL[::1], distractors=2, unanswerable_share=0.5, seed=1)
    assert [draft["context"] for draft in again] == [draft["context"] for draft in found]


def test_relevant_hits_are_shown_and_never_in_an_unanswerable_row():
    """What the judge called relevant may hold the answer."""
    hits = [
        POOL[1] | {"relevant": True, "score": 1.0, "relevance": 2.0},
        POOL[2] | {"relevant": False, "score": 0.5, "relevance": -2.0},
    ]
    asked = [draft | {"hits": hits} for draft in drafts(2)]
    yes, no = sorted(cited.add_contexts(asked, POOL, 2, 0.5), key=lambda draft: not draft["answerable"])
    assert {POOL[0]["id"], POOL[1]["id"]} < {item["id"] for item in yes["context"]}
    assert POOL[1]["id"] not in {item["id"] for item in no["context"]}
    assert POOL[2]["id"] in {item["id"] for item in no["context"]}


def model(written: str, likely: str) -> Scripted:
    """A model that writes one text, and whose first token after 【 is `likely`."""
    tops = [{"？": -0.1, likely: -0.5, "珊": -3.0}]
    return Scripted(lambda request: text(likely, logprobs=tops) if request.top_logprobs else text(written))


def test_titles_that_the_model_writes_become_ids():
    """A base model copies a title far more surely than eight hex digits."""
    asked = cited.add_contexts(drafts(1), POOL, 2, 0.0)
    client = model("台灣最高的山是玉山。【玉山】主峰海拔3952公尺。【玉山】", "水")
    accepted, rejects = cited.answer_cited(client, asked)
    assert not rejects and accepted[0]["answer"] == GOOD
    assert accepted[0]["cited"] == "titles written by the model" and len(client.asked) == 1


def test_missing_titles_are_chosen_by_log_probability():
    """What the model does not write is its likeliest next token, not ours."""
    asked = cited.add_contexts(drafts(1), POOL, 2, 0.0)
    accepted, rejects = cited.answer_cited(model("台灣最高的山是玉山。【9】主峰海拔3952公尺。", "玉"), asked)
    assert not rejects and accepted[0]["answer"] == GOOD
    assert accepted[0]["cited"] == "titles chosen by log-probability"


def test_a_wrong_choice_is_rejected():
    """The choice is the model's own; the check is not."""
    asked = cited.add_contexts(drafts(1), POOL, 2, 0.0)
    other = next(item["title"] for item in asked[0]["context"] if item["title"] != "玉山")
    accepted, rejects = cited.answer_cited(model("玉山是台灣最高的山。", other[0]), asked)
    assert not accepted and rejects[0]["rule"] == "unsupported_citation"


def test_true_words_about_a_distractor_are_rejected():
    """A small model may answer from the wrong document, with a citation that holds."""
    asked = cited.add_contexts(drafts(1), POOL, 4, 0.0)
    accepted, rejects = cited.answer_cited(model("琵琶有四條弦，演奏時抱在胸前。【琵琶】", "琵"), asked)
    assert not accepted and rejects[0]["rule"] == "source_not_cited"


def test_titles_are_distinct_and_ambiguous_tokens_choose_nothing():
    """Two chunks of one article have one title; half a title may begin two."""
    found = citations.titles_of([{"title": "玉山"}, {"title": "玉山"}, {"title": "玉米"}])
    assert list(found) == ["玉山", "玉山 2", "玉米"]
    assert citations.likeliest(text("x", logprobs=[{"玉": -0.1}]), found) == ""
    assert citations.likeliest(text("x", logprobs=[{"玉": -2.0, "玉米": -0.1}]), found) == "玉米"
    assert citations.likeliest(text("x"), found) == ""


def test_rows_have_the_cards_format_and_say_how_they_came_about():
    """The student must see the ids that it is to cite, and the fixed sentence where nothing helps."""
    asked = cited.add_contexts(drafts(4), POOL, 2, 0.25)
    accepted, _ = cited.answer_cited(Scripted(lambda request: text(GOOD), dialect="chat"), asked)
    rows = cited.cited_conversations(accepted, "m")
    assert len(rows) == 4 and {row["source"] for row in rows} == {"rag_cited"}
    for row in rows:
        found = meta(row)
        assert all(f"文件ID: {one}\n" in question(row) for one in found["context"])
        assert question(row).endswith("台灣最高的山是哪一座？") and cited.NO_ANSWER["zh-Hant"] in question(row)
        answer = row["messages"][-1]["content"]
        assert answer == (GOOD if found["answerable"] else cited.NO_ANSWER["zh-Hant"])
        assert found["citations"].startswith("written" if found["answerable"] else "none, unanswerable")
        assert set(found["context"]) <= set(row["parents"])


def test_documents_are_data_in_the_template():
    """A document with template syntax or a fence of its own must stay text."""
    item = {"id": "id_1", "title": "{{ x }}", "text": "=== user {% for %}"}
    (draft,) = [drafts(1)[0] | {"context": [item], "answerable": True, "answer": "a", "cited": "written"}]
    assert "=== user {% for %}" in question(cited.cited_conversations([draft], "m")[0])
