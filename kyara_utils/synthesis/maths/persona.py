"""Persona maths: a problem from a persona's life, sampled solutions, and verdicts that do not rest on the model's word.

PersonaHub (Ge et al. 2024, arXiv 2406.20094) gives the idea; Kyara wrote 50,000 problems and let Gemini-1.5-Flash drop
those with obvious errors of calculation and reasoning. Here every equation is recomputed, solutions sampled
independently must agree on the answer (all of them where recomputing cannot tell), and the model's own verdict is
recorded as log-odds.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from kyara_utils.llm import Client, Response, complete, load_prompt, log_odds, score
from kyara_utils.runs import KyaraError, content_id, read_jsonl
from kyara_utils.synthesis.drafts import Row, conversation, problem_of, split
from kyara_utils.synthesis.maths.answers import Answer, final_answer
from kyara_utils.synthesis.maths.rules import REFUTED, VERIFIED, check_solution, problem_rule

BUNDLED = Path(__file__).resolve().parents[2] / "data" / "personas.jsonl"
STEP = "03_math_personahub"
LABELS = ("對", "錯")
LABEL = re.compile(r"^\W*(?:數學)?(?:應用)?(?:題目|問題|題)\W*[:：]\W*")
TOPICS = (  # of lower secondary school; a problem draws one, so that a strong model does not write one kind only
    "小數與單位換算", "分數的加減乘除", "百分率與折扣", "比與比例", "速率、時間與距離", "平均數與統計", "面積與體積",
    "成本、利潤與利息", "一元一次方程式", "最大公因數或最小公倍數", "分段計價", "人力與工作天數",
)  # fmt: skip


@dataclass(frozen=True)
class Style:
    """Prompts and limits by what a model can do: tokens of a problem and a solution, characters of a problem.

    strict: sums must be built from the problem's own numbers, because the model puts down numbers at random.
    """

    suffix: str
    problem_tokens: int
    solution_tokens: int
    longest: int
    strict: bool = False

    def prompt(self, name: str):
        return load_prompt(f"synthesis/{name}{self.suffix}")


STYLES = {
    "completion": Style("", 48, 90, 64, strict=True),
    "brief": Style("_brief", 160, 400, 200),
    "full": Style("_full", 800, 4096, 600),
}


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

    Rejects (the last attempt's): call_failed, empty, truncated and the rules of `problem_rule`.
    """
    style = STYLES[client.model.style]
    drafts: dict[str, Row] = {}
    for attempt in range(attempts):
        asked = [persona for persona in personas if persona not in drafts or drafts[persona]["rule"]]
        for persona, response in zip(asked, _problems(client, style, asked, attempt, seed), strict=True):
            calls = drafts[persona]["calls"] if persona in drafts else []
            drafts[persona] = _draft(persona, response, calls, style)
    return split([drafts[persona] for persona in personas], lambda draft: (draft["rule"], draft["problem"]), STEP)


def _problems(client: Client, style: Style, personas: list[str], attempt: int, seed: int) -> list[Response]:
    prompt = style.prompt("persona_problem")
    inputs = [{"persona": persona} for persona in personas]
    if "topic" in prompt.inputs:
        inputs = [item | {"topic": random.Random(f"{item['persona']} {seed}").choice(TOPICS)} for item in inputs]
    options = {"max_tokens": style.problem_tokens, "temperature": 0.3 + 0.2 * attempt}
    return complete(client, prompt, inputs, seed=seed + attempt, sample=attempt, **options)


def _draft(persona: str, response: Response, calls: list[str], style: Style) -> Row:
    text = LABEL.sub("", response.text).strip()
    if style.strict and response.finish_reason == "stop" and text and not text.endswith("？"):
        text += "？"  # the stop sequence that ended it
    return {
        "id": content_id(persona, text, prefix="draft_", n=12),
        "persona": persona,
        "problem": text,
        "calls": [*calls, response.call_id],
        "rule": problem_of(response) or problem_rule(text, style.longest),
    }


def solve_problems(
    client: Client, drafts: list[Row], model: str, samples: int = 3, seed: int = 0
) -> tuple[list[Row], list[Row]]:
    """Solve each problem `samples` times, keep the majority's first solution, judge it; return conversations, rejects.

    Rejects: no_answer, disagreement (no answer twice, or not all agree on one that cannot be verified) and the rules
    of `check_solution` that refute a solution.
    """
    style = STYLES[client.model.style]
    columns = [_solutions(client, style, drafts, sample, seed) for sample in range(samples)]
    for position, draft in enumerate(drafts):
        _choose(draft, [column[position] for column in columns], style)
    kept, rejects = split(drafts, lambda draft: (draft["rule"], draft["detail"]), STEP)
    _verdicts(client, style, kept)
    return [_conversation(draft, model, style) for draft in kept], rejects


def _solutions(client: Client, style: Style, drafts: list[Row], sample: int, seed: int) -> list[Response]:
    """One solution each: the first greedily, the others to see whether the answer is stable."""
    inputs = [{"problem": draft["problem"]} for draft in drafts]
    options = {"max_tokens": style.solution_tokens, "temperature": 0.0 if sample == 0 else 0.5}
    return complete(client, style.prompt("solution"), inputs, seed=seed + sample, sample=sample, **options)


def _choose(draft: Row, responses: list[Response], style: Style) -> None:
    draft["calls"] += [response.call_id for response in responses]
    solved = [(final_answer(r.text), r.text) for r in responses if not problem_of(r)]
    votes = grouped([(answer, text) for answer, text in solved if answer])
    draft["votes"] = {group[0][0].text: len(group) for group in votes}
    if not votes:
        draft |= {"rule": "no_answer", "detail": responses[0].text[-120:]}
        return
    best = votes[0]
    draft["solution"] = best[0][1]
    check = check_solution(draft["problem"], draft["solution"], style.strict)
    draft |= {"check": check.verdict, "checked": check.rule, "rule": "", "detail": ""}
    agreed = len(best) >= min(2, len(responses)) and (check.verdict == VERIFIED or len(best) == len(responses))
    if check.verdict == REFUTED and len(best) >= min(2, len(responses)):
        draft |= {"rule": check.rule, "detail": f"{check.detail} in: {draft['solution'][:200]}"}
    elif not agreed:
        draft |= {"rule": "disagreement", "detail": f"{draft['votes']} {check.verdict} {check.rule}"}


def grouped(solved: list[tuple[Answer, str]]) -> list[list[tuple[Answer, str]]]:
    """Solutions by equal answer, most first; equal means equal in value."""
    groups: list[list[tuple[Answer, str]]] = []
    for answer, text in solved:
        group = next((group for group in groups if group[0][0].same(answer)), None)
        if group is None:
            groups.append([(answer, text)])
        else:
            group.append((answer, text))
    return sorted(groups, key=len, reverse=True)


def _verdicts(client: Client, style: Style, drafts: list[Row]) -> None:
    inputs = [{"problem": draft["problem"], "solution": draft["solution"]} for draft in drafts]
    responses = log_odds(client, style.prompt("solution_check"), inputs, LABELS)
    for draft, response in zip(drafts, responses, strict=True):
        draft["verdict"] = score(response, LABELS)
        draft["calls"].append(response.call_id)


def _conversation(draft: Row, model: str, style: Style) -> Row:
    answer = final_answer(draft["solution"])
    meta = {
        "model": model, "persona": draft["persona"], "answer": answer.text, "votes": draft["votes"],
        "check": draft["check"], "unverified_because": draft["checked"], "verdict_log_odds": draft["verdict"],
        "topic": "math",
        "prompts": [style.prompt(name).name for name in ("persona_problem", "solution", "solution_check")],
    }  # fmt: skip
    parents = [content_id(draft["persona"], prefix="persona_")]
    return conversation(draft["problem"], draft["solution"], "math", parents, draft["calls"], meta)
