"""Persona maths: a problem from a persona's life, sampled solutions, and verdicts that do not rest on the model's word.

PersonaHub (Ge et al. 2024, arXiv 2406.20094) gives the idea; Kyara wrote 50,000 problems and let Gemini-1.5-Flash drop
those with obvious errors of calculation and reasoning. Here three checks stand for that: every written equation is
recomputed, sampled solutions must agree on the answer, and the model's own verdict is recorded as log-odds.
"""

import re
from collections import Counter
from pathlib import Path

from kyara_utils.llm import Client, Response, complete, load_prompt, log_odds, score
from kyara_utils.runs import KyaraError, content_id, read_jsonl
from kyara_utils.synthesis.drafts import Row, conversation, problem_of, split

BUNDLED = Path(__file__).resolve().parents[1] / "data" / "personas.jsonl"
STEP = "03_math_personahub"
LABELS = ("對", "錯")
ANSWER = re.compile(r"答案是\s*(-?\d{1,9})\D{0,4}$")
EQUATION = re.compile(r"(\d{1,7}(?:\s*[+\-−×x*÷/]\s*\d{1,7}){1,6})\s*=\s*(\d{1,9})")
OPERATIONS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "×": lambda a, b: a * b, "÷": lambda a, b: a / b if b else None,
}  # fmt: skip
SIGNS = str.maketrans({"−": "-", "x": "×", "*": "×", "/": "÷"})


def read_personas(source: str, root: Path) -> list[str]:
    """Distinct personas of a `.jsonl` file with the field `persona` (PersonaHub's format), or the bundled ones."""
    path = BUNDLED if source == "bundled" else root / source
    if not path.is_file():
        raise KyaraError(f"no personas file {path}; give a .jsonl with the field persona, or bundled")
    personas = [row.get("persona", "") for row in read_jsonl(path)]
    if not any(personas):
        raise KyaraError(f"{path} has no row with the field persona; rename the field")
    return list(dict.fromkeys(persona for persona in personas if persona))


def write_problems(
    client: Client, personas: list[str], attempts: int = 3, seed: int = 0
) -> tuple[list[Row], list[Row]]:
    """Write a problem per persona, asking again up to `attempts` times where the form is wrong.

    Rejects (the last attempt's): call_failed, empty, truncated, not_a_question, too_long, asks_no_quantity,
    too_few_numbers.
    """
    drafts: dict[str, Row] = {}
    for attempt in range(attempts):
        asked = [persona for persona in personas if persona not in drafts or drafts[persona]["rule"]]
        for persona, response in zip(asked, _problems(client, asked, attempt, seed), strict=True):
            calls = drafts[persona]["calls"] if persona in drafts else []
            drafts[persona] = _draft(persona, response, calls)
    return split([drafts[persona] for persona in personas], lambda draft: (draft["rule"], draft["problem"]), STEP)


def _problems(client: Client, personas: list[str], attempt: int, seed: int) -> list[Response]:
    prompt = load_prompt("synthesis/persona_problem")
    inputs = [{"persona": persona} for persona in personas]
    temperature = 0.3 + 0.2 * attempt
    return complete(client, prompt, inputs, max_tokens=48, temperature=temperature, seed=seed + attempt, sample=attempt)


def _draft(persona: str, response: Response, calls: list[str]) -> Row:
    text = response.text
    if response.finish_reason == "stop" and text and not text.endswith("？"):
        text += "？"  # the stop sequence that ended it
    return {
        "id": content_id(persona, text, prefix="draft_", n=12),
        "persona": persona,
        "problem": text,
        "calls": [*calls, response.call_id],
        "rule": problem_of(response) or problem_rule(text),
    }


def problem_rule(text: str) -> str:
    """A problem asks, in one breath (64 characters), for a quantity, and gives at least two numbers."""
    if not text.endswith(("？", "?")):
        return "not_a_question"
    if len(text) > 64:
        return "too_long"
    if not re.search("幾|多少", text):
        return "asks_no_quantity"
    return "" if len(re.findall(r"\d+", text)) >= 2 else "too_few_numbers"


def solve_problems(
    client: Client, drafts: list[Row], model: str, samples: int = 3, seed: int = 0
) -> tuple[list[Row], list[Row]]:
    """Solve each problem `samples` times, keep the majority's first solution, judge it; return conversations, rejects.

    Rejects: no_answer, wrong_calculation, no_equation, disagreement (no answer twice), foreign_numbers.
    """
    prompt = load_prompt("synthesis/solution")
    responses = []
    for sample in range(samples):  # the first greedily, the others to see whether the answer is stable
        inputs = [{"problem": draft["problem"]} for draft in drafts]
        temperature = 0.0 if sample == 0 else 0.5
        responses.append(
            complete(client, prompt, inputs, max_tokens=90, temperature=temperature, seed=seed + sample, sample=sample)
        )
    for position, draft in enumerate(drafts):
        _choose(draft, [column[position] for column in responses])
    kept, rejects = split(drafts, lambda draft: (draft["rule"], draft["solution"][:120]), STEP)
    _verdicts(client, kept)
    return [_conversation(draft, model) for draft in kept], rejects


def _choose(draft: Row, responses: list) -> None:
    draft["calls"] += [response.call_id for response in responses]
    votes = Counter(answer_of(response.text) for response in responses)
    votes.pop(None, None)
    draft["votes"] = {str(answer): count for answer, count in votes.most_common()}
    draft["solution"] = responses[0].text
    if not votes:
        draft["rule"] = "no_answer"
        return
    answer, count = votes.most_common(1)[0]
    draft["solution"] = next(response.text for response in responses if answer_of(response.text) == answer)
    draft["rule"] = (
        "disagreement" if count < min(2, len(responses)) else solution_rule(draft["problem"], draft["solution"])
    )


def answer_of(solution: str) -> int | None:
    """The number after 「答案是」 at the end, or None."""
    found = ANSWER.search(solution.strip().rstrip("。．. "))
    return int(found.group(1)) if found else None


def solution_rule(problem: str, solution: str) -> str:
    """Recompute a solution: equations present, all right, built from the problem's numbers, the last one the answer."""
    equations = EQUATION.findall(solution)
    if not equations:
        return "no_equation"
    if any(calculate(left) != int(right) for left, right in equations):
        return "wrong_calculation"
    if int(equations[-1][1]) != answer_of(solution):
        return "wrong_calculation"
    return "" if _own_numbers(problem, equations) else "foreign_numbers"


def _own_numbers(problem: str, equations: list[tuple[str, str]]) -> bool:
    """Whether every operand comes from the problem or an earlier result, none more often than it stands there."""
    there = Counter(re.findall(r"\d+", problem))
    for left, right in equations:
        operands = Counter(re.findall(r"\d+", left))
        if any(count > there[number] for number, count in operands.items()):
            return False
        there[right] += 1
    return True


def calculate(expression: str) -> float | None:
    """Value of `12+3×4`, products before sums; None for a division by zero. Nothing is evaluated as code."""
    parts = re.findall(r"\d+|[+\-×÷]", expression.translate(SIGNS))
    values, signs = [float(parts[0])], []
    for sign, number in zip(parts[1::2], parts[2::2], strict=True):
        if sign in "×÷":
            value = OPERATIONS[sign](values[-1], float(number))
            if value is None:
                return None
            values[-1] = value
        else:
            signs.append(sign)
            values.append(float(number))
    total = values[0]
    for sign, value in zip(signs, values[1:], strict=True):
        total = OPERATIONS[sign](total, value)
    return total


def _verdicts(client: Client, drafts: list[Row]) -> None:
    inputs = [{"problem": draft["problem"], "solution": draft["solution"]} for draft in drafts]
    for draft, response in zip(
        drafts, log_odds(client, load_prompt("synthesis/solution_check"), inputs, LABELS), strict=True
    ):
        draft["verdict"] = score(response, LABELS)
        draft["calls"].append(response.call_id)


def _conversation(draft: Row, model: str) -> Row:
    meta = {
        "model": model, "persona": draft["persona"], "answer": answer_of(draft["solution"]), "votes": draft["votes"],
        "verdict_log_odds": draft["verdict"], "topic": "math",
        "prompts": [load_prompt(f"synthesis/{n}").name for n in ("persona_problem", "solution", "solution_check")],
    }  # fmt: skip
    parents = [content_id(draft["persona"], prefix="persona_")]
    return conversation(draft["problem"], draft["solution"], "math", parents, draft["calls"], meta)
