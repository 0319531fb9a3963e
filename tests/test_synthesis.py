"""Persona maths without a model: what counts as a problem, what a solution must prove."""

import json

import pytest

from kyara_utils.llm import Model, Response
from kyara_utils.synthesis import persona_maths
from kyara_utils.synthesis.persona_maths import answer_of, calculate, problem_rule, solution_rule


class Scripted:
    """Stands in for a client in tests of bookkeeping alone: answers by a function of the request."""

    def __init__(self, answer, dialect="completion"):
        self.answer, self.asked = answer, []
        self.model = Model("scripted", dialect=dialect)

    def ask(self, requests, label="", **options):
        self.asked += requests
        return [self.answer(request) for request in requests]


def text(value: str, **fields) -> Response:
    return Response(f"call_{abs(hash(value)) % 10**6}", value, "stop", **fields)


def last(request) -> str:
    return request.messages[-1]["content"]


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


def test_solving_keeps_agreement_and_rejects_by_rule():
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
