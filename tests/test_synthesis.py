"""Synthesis without a model: what counts as a question, what a solution must prove, where the books must balance."""

import json
from types import SimpleNamespace

import pytest

from kyara_utils.llm.client import Response
from kyara_utils.runs import sample
from kyara_utils.synthesis import persona_maths, rag
from kyara_utils.synthesis.drafts import is_question, problem_of
from kyara_utils.synthesis.persona_maths import answer_of, calculate, problem_rule, solution_rule


class Scripted:
    """Stands in for a client in tests of bookkeeping alone: answers by a function of the last message."""

    def __init__(self, answer):
        self.answer = answer

    def ask(self, requests, label="", progress=True):
        return [self.answer(request) for request in requests]


def text(value: str, **fields) -> Response:
    return Response(f"call_{abs(hash(value)) % 10**6}", value, "stop", **fields)


def chunk(number: int) -> dict:
    return {
        "id": f"id_{number:08x}",
        "doc_id": f"doc_{number}",
        "title": f"題{number}",
        "text": f"第{number}段內容。",
        "topic": "t",
    }


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
    assert is_question(question) is good


def test_unusable_answers_have_a_name():
    """A failed call must never become an empty training row."""
    assert problem_of(Response("k", error="HTTP 500")) == "call_failed"
    assert problem_of(Response("k", "", "stop")) == "empty"
    assert problem_of(Response("k", "半句", "length")) == "truncated"
    assert problem_of(text("好。")) == ""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("48-29", 19),
        ("12+3×4", 24),
        ("72÷9", 8),
        ("7/2", 3.5),
        ("2*3-1", 5),
        ("100−1", 99),
        ("5÷0", None),
        ("2+6÷3-1", 3),
    ],
)
def test_arithmetic_is_recomputed_without_eval(expression, value):
    """Model output is data: the calculator knows numbers and four signs, nothing else."""
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("problem", "solution", "rule"),
    [
        ("有48條魚，賣掉29條，剩幾條？", "48-29=19條。答案是19。", ""),
        ("有48條魚，賣掉29條，剩幾條？", "48-29=21條。答案是21。", "wrong_calculation"),
        ("有48條魚，賣掉29條，剩幾條？", "48-29=19條。答案是20。", "wrong_calculation"),
        ("有48條魚，賣掉29條，剩幾條？", "賣掉後剩19條。答案是19。", "no_equation"),
        ("有48條魚，賣掉29條，剩幾條？", "60-29=31條。答案是31。", "foreign_numbers"),
        ("6本，每本35張，又買4張，共幾張？", "6×35=210，210+4=214張。答案是214張。", ""),
        ("攤商收了100元，每份10元，賣了幾份？", "10×10=100份。答案是100。", "foreign_numbers"),
    ],
)
def test_solutions_must_add_up(problem, solution, rule):
    """A wrong sum with a confident last line is the commonest fault of small models."""
    assert solution_rule(problem, solution) == rule


def test_answers_and_problems_are_read():
    """The answer is what follows 答案是 at the end, not any number on the way."""
    assert answer_of("先算3+4=7。答案是7。") == 7
    assert answer_of("答案是7嗎？不，應該再加一些東西才對") is None
    assert problem_rule("他有3顆和5顆，共幾顆？") == ""
    assert problem_rule("他有很多顆，共幾顆？") == "too_few_numbers"
    assert problem_rule("他有3顆和5顆。") == "not_a_question"
    assert problem_rule("每人10公斤，車上100公斤？") == "asks_no_quantity"


def test_solving_keeps_agreement_and_rejects_by_rule(monkeypatch):
    """Rows in = rows out + rejects, and disagreement between samples is a reason of its own."""
    said = {
        "好": ["6×35=210張。答案是210。"] * 3,
        "亂": ["6×35=210。答案是210。", "6+35=41。答案是41。", "35-6=29。答案是29。"],
        "無": ["不知道"] * 3,
    }

    def answer(request):
        prompt = request.messages[-1]["content"]
        if request.top_logprobs:
            return text("對", logprobs=[{"對": -0.1, "錯": -2.0}])
        return text(next(v for k, v in said.items() if f"{k}題" in prompt)[request.sample])

    drafts = [{"id": k, "persona": k, "problem": f"{k}題6本35張共幾張？", "calls": []} for k in said]
    rows, rejects = persona_maths.solve_problems(Scripted(answer), drafts, "m")
    assert [json.loads(row["meta"])["persona"] for row in rows] == ["好"]
    assert sorted(row["rule"] for row in rejects) == ["disagreement", "no_answer"]
    assert json.loads(rows[0]["meta"])["verdict_log_odds"] == pytest.approx(1.9)


def test_questions_are_unique_and_accounted_for():
    """The same question from two chunks would be trained on twice."""
    client = Scripted(
        lambda request: text("這座山有多高呢？" if "第1段" not in str(request.messages[-1]) else "不是問句")
    )
    drafts, rejects = rag.write_questions(client, [chunk(number) for number in range(3)])
    assert len(drafts) == 1 and sorted(row["rule"] for row in rejects) == ["duplicate_question", "not_a_question"]


def test_queries_that_are_not_json_are_no_queries():
    """One malformed expansion must cost the expansion, not the row."""
    assert rag.read_queries('{"search_query":["a","a","b",3," "]}') == ["a", "b"]
    for bad in ("", "[]", '{"search_query":"a"}', '{"x":1}', "{"):
        assert rag.read_queries(bad) == []


def test_relevance_threshold_comes_from_known_irrelevant_pairs():
    """Small models say 能 to everything; only what beats unrelated documents counts."""
    hits = [
        {"id": "id_1", "title": "好", "text": "相關", "score": 1.0},
        {"id": "id_2", "title": "壞", "text": "離題", "score": 0.9},
    ]
    drafts = [
        {"id": str(n), "chunk": chunk(n), "question": "問題？", "calls": [], "hits": [dict(hit) for hit in hits]}
        for n in range(4)
    ]

    def answer(request):
        related = "相關" in request.messages[-1]["content"]
        return text("能", logprobs=[{"能": -0.2, "否": -3.0 if related else -0.5}])

    judged, threshold = rag.judge_relevance(Scripted(answer), drafts, controls=4)
    assert threshold == pytest.approx(0.3)
    assert [hit["relevant"] for hit in judged[0]["hits"]] == [True, False]


def test_retrieval_leaves_the_source_out_and_fuses():
    """A question answered from the chunk it was made of would retrieve that chunk first, and prove nothing."""
    index = SimpleNamespace(
        search=lambda query, k: [
            SimpleNamespace(chunk_id=f"id_{n:08x}", title="t", text="x")
            for n in ((0, 1, 2) if query == "q" else (2, 0, 3))
        ]
    )
    (draft,) = rag.retrieve(index, [{"chunk": chunk(0), "question": "q", "queries": ["other"]}], k=2)
    assert [hit["id"] for hit in draft["hits"]] == ["id_00000002", "id_00000001"]


def test_sampling_is_seeded_and_order_free():
    """The same seed must choose the same documents whatever order they were read in."""
    items = [{"id": str(number)} for number in range(20)]
    assert sample(items, 5, 1) == sample(items[::-1], 5, 1) != sample(items, 5, 2)
    assert len(sample(items, 0, 1)) == 20
