"""Persona maths: a problem from a persona's life, sampled solutions, and verdicts that do not rest on the model's word.

PersonaHub (Ge et al. 2024, arXiv 2406.20094) gives the idea; Kyara wrote 50,000 problems and let Gemini-1.5-Flash drop
those with obvious errors of calculation and reasoning. Here every equation is recomputed, solutions sampled
independently must agree on the answer (all of them where recomputing cannot tell), and the model's own verdict is
recorded as log-odds.
"""

import random
import re
from collections import Counter
from pathlib import Path

from kyara_utils.llm import Client, Response, complete, load_prompt, log_odds, score
from kyara_utils.runs import KyaraError, content_id, read_jsonl
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis.drafts import conversation, problem_of, split
from kyara_utils.synthesis.maths.answers import Answer, final_answer
from kyara_utils.synthesis.maths.rules import REFUTED, VERIFIED, check_solution, problem_rule
from kyara_utils.synthesis.styles import Style, style_of, task_of

BUNDLED = Path(__file__).resolve().parents[2] / "data" / "personas.jsonl"
STEP = "03_math_personahub"
LABELS = ("對", "錯")
LABEL = re.compile(r"^\W*(?:數學)?(?:應用)?(?:題目|問題|題)\W*[:：]\W*")
TOPICS = (  # of lower secondary school; a problem draws one, so that a strong model does not write one kind only
    "小數與單位換算", "分數的加減乘除", "百分率與折扣", "比與比例", "速率、時間與距離", "平均數與統計", "面積與體積",
    "成本、利潤與利息", "一元一次方程式", "最大公因數或最小公倍數", "分段計價", "人力與工作天數",
)  # fmt: skip

OUTLINES = (  # what a small model, which loses sense when it is free to invent, only has to dress in a persona's life
    "買進一批商品，先照定價賣出一部分，剩下的降價賣完，問一共賺多少元。",
    "商品打折，買了好幾件，付出一筆錢，問找回多少元。",
    "平日和假日每天做的量不同，問一個星期一共做多少。",
    "頭幾天每天做固定的數量，後幾天每天多做一些，問全部做了多少。",
    "把一批東西裝成箱，每箱賣固定的價錢，問全部賣完收入多少元。",
    "長方形的地方，每平方公尺要用多少材料，問一共要用多少材料。",
    "三天的數量各不相同，問平均每天多少。",
    "做一份要用多少材料，材料每公斤多少元，問做好幾份的材料費多少元。",
    "平日與假日的時薪不同，工作時數也不同，問一星期的收入多少元。",
    "有一筆存款，每個月再存固定的金額，買了一件東西，問還剩多少元。",
    "兩種票或商品的價錢不同，各買幾張，問一共要付多少元。",
    "每箱有幾公斤，運費每公斤多少元，送了幾箱，問運費一共多少元。",
)


def read_personas(source: str, root: Path) -> list[str]:
    """Distinct personas of a `.jsonl` file with the field `persona` (PersonaHub's format), or the bundled ones."""
    path = BUNDLED if source == "bundled" else root / source
    if not path.is_file():
        raise KyaraError(f"no personas file {path}; give a .jsonl with the field persona, or bundled")
    personas = [row.get("persona", "") for row in read_jsonl(path)]
    if not any(personas):
        raise KyaraError(f"{path} has no row with the field persona; rename the field")
    return list(dict.fromkeys(persona for persona in personas if persona))


class MathsWork:
    """Problems for some personas and then their solutions, as one piece of work for `until_accepted`.

    `problems` keeps every problem of a usable form, solved or not: good for some 1,000,000.
    """

    def __init__(self, client: Client, model: str, attempts: int, samples: int, seed: int):
        self.client, self.model, self.seed = client, model, seed
        self.attempts, self.samples = attempts, samples
        self.problems: list[Row] = []

    def __call__(self, personas: list[str]) -> tuple[list[Row], list[Row]]:
        written, rejected = write_problems(self.client, personas, self.attempts, self.seed)
        self.problems += written
        solved, unsolved = solve_problems(self.client, written, self.model, self.samples, self.seed)
        return solved, rejected + unsolved


def rule_counts(rejects: list[Row]) -> list[tuple[str, int]]:
    """Return (rule, rows), most first."""
    return Counter(row["rule"] for row in rejects).most_common()


def write_problems(
    client: Client, personas: list[str], attempts: int = 3, seed: int = 0
) -> tuple[list[Row], list[Row]]:
    """Write a problem per persona, asking again up to `attempts` times where the form is wrong.

    Rejects (the last attempt's): call_failed, empty, truncated and the rules of `problem_rule`.
    """
    drafts: dict[str, Row] = {}
    for attempt in range(attempts):
        asked = [persona for persona in personas if persona not in drafts or drafts[persona]["rule"]]
        for persona, response in zip(asked, _problems(client, asked, attempt, seed), strict=True):
            calls = drafts[persona]["calls"] if persona in drafts else []
            drafts[persona] = _draft(persona, response, calls, style_of(client))
    return split([drafts[persona] for persona in personas], lambda draft: (draft["rule"], draft["problem"]), STEP)


def _problems(client: Client, personas: list[str], attempt: int, seed: int) -> list[Response]:
    prompt = _prompt(client, "problem")
    inputs = [{"persona": persona} for persona in personas]
    for name, choices in (("topic", TOPICS), ("outline", OUTLINES)):
        if name in prompt.inputs:
            inputs = [item | {name: random.Random(f"{item['persona']} {seed}").choice(choices)} for item in inputs]
    return complete(client, prompt, inputs, **_options(client, "problem", attempt, seed))


def _prompt(client: Client, name: str):
    return load_prompt(f"synthesis/{task_of(client, name).prompt}")


def _options(client: Client, name: str, attempt: int, seed: int) -> Row:
    task = task_of(client, name)
    temperature = task.temperatures[min(attempt, len(task.temperatures) - 1)]
    return {"max_tokens": task.max_tokens, "temperature": temperature, "seed": seed + attempt, "sample": attempt}


def _draft(persona: str, response: Response, calls: list[str], style: Style) -> Row:
    text = LABEL.sub("", response.text).strip()
    if style.one_line and response.finish_reason == "stop" and text and not text.endswith("？"):
        text += "？"  # the stop sequence that ended it
    return {
        "id": content_id(persona, text, prefix="draft_", n=12),
        "persona": persona,
        "problem": text,
        "calls": [*calls, response.call_id],
        "rule": problem_of(response) or problem_rule(text, style.problem[1]),
    }


def solve_problems(
    client: Client, drafts: list[Row], model: str, samples: int = 3, seed: int = 0
) -> tuple[list[Row], list[Row]]:
    """Solve each problem `samples` times, keep the majority's first solution, judge it; return conversations, rejects.

    Rejects: no_answer, disagreement (no answer twice, or not all agree on one that cannot be verified) and the rules
    of `check_solution` that refute a solution.
    """
    inputs = [{"problem": draft["problem"]} for draft in drafts]
    columns = [  # the first greedily, the others to see whether the answer is stable
        complete(client, _prompt(client, "solution"), inputs, **_options(client, "solution", sample, seed))
        for sample in range(samples)
    ]
    for position, draft in enumerate(drafts):
        _choose(draft, [column[position] for column in columns], style_of(client).sums)
    kept, rejects = split(drafts, lambda draft: (draft["rule"], draft["detail"]), STEP)
    _verdicts(client, kept)
    prompts = [_prompt(client, name).name for name in ("problem", "solution", "solution_check")]
    return [_conversation(draft, model, prompts) for draft in kept], rejects


def _choose(draft: Row, responses: list[Response], sums: str) -> None:
    draft["calls"] += [response.call_id for response in responses]
    solved = [(final_answer(r.text), r.text) for r in responses if not problem_of(r)]
    votes = grouped([(answer, text) for answer, text in solved if answer])
    draft["votes"] = {group[0][0].text: len(group) for group in votes}
    if not votes:
        draft |= {"rule": "no_answer", "detail": responses[0].text[-120:]}
        return
    best = votes[0]
    draft["solution"] = best[0][1]
    check = check_solution(draft["problem"], draft["solution"], sums)
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


def _verdicts(client: Client, drafts: list[Row]) -> None:
    inputs = [{"problem": draft["problem"], "solution": draft["solution"]} for draft in drafts]
    responses = log_odds(client, _prompt(client, "solution_check"), inputs, LABELS)
    for draft, response in zip(drafts, responses, strict=True):
        draft["verdict"] = score(response, LABELS)
        draft["calls"].append(response.call_id)


def _conversation(draft: Row, model: str, prompts: list[str]) -> Row:
    answer = final_answer(draft["solution"])
    meta = {
        "model": model, "persona": draft["persona"], "answer": answer.text, "votes": draft["votes"],
        "check": draft["check"], "unverified_because": draft["checked"], "verdict_log_odds": draft["verdict"],
        "topic": "math", "prompts": prompts,
    }  # fmt: skip
    parents = [content_id(draft["persona"], prefix="persona_")]
    return conversation(draft["problem"], draft["solution"], "math", parents, draft["calls"], meta)
