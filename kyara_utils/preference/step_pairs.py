"""Step-DPO pairs of our own maths rows: the first wrong step of a sampled solution against a right one in its place.

As Lai et al. 2024 (Step-DPO, arXiv 2406.18629, §3.2; dvlab-research/Step-DPO) made theirs: solutions are sampled, the
first wrong step is found, and from the steps before it the same model goes on until it arrives at the right answer.
There GPT-4 found the error; here recomputing does, so that only errors of calculation are found, and these for certain.
"""

import re
from collections.abc import Sequence

from kyara_utils.llm import Client, Request, Response
from kyara_utils.models.chat_templates import begun_text
from kyara_utils.preference.candidates import SEED_STEP, several_answers
from kyara_utils.preference.preference_rows import STEP, preference
from kyara_utils.preference.verifiers import RIGHT, verify
from kyara_utils.runs import answer, content_id, question, reject
from kyara_utils.runs.tables import Row
from kyara_utils.synthesis.maths.answers import final_answer
from kyara_utils.synthesis.maths.equations import WRONG, equations
from kyara_utils.synthesis.maths.rules import check_solution

SOURCE = "step_dpo"
PIECE = re.compile(r"(?<=[。！？!?；;\n])(?![。！？!?；;\s」』）)])")  # behind a sentence or line
Located = tuple[str, str, str]  # the steps before a wrong one, the wrong one, the rule that it breaks


def steps(solution: str) -> list[str]:
    """Part a solution into steps, which joined are the solution: sentences or lines up to the one that computes."""
    found, step = [], ""
    for piece in PIECE.split(solution):
        step += piece
        if equations(step) or final_answer(step):
            found.append(step)
            step = ""
    return [*found, step] if step.strip() else found


def first_wrong_step(row: Row, solution: str) -> Located | None:
    """Return where a solution of a row's problem goes wrong, or None where recomputing does not say.

    Rules: `wrong_calculation`, an equation of the step is wrong; `wrong_answer`, all equations are right, and the step
    states an answer that is neither the result of one nor the right one.
    """
    known, begun = final_answer(answer(row)), ""
    misstated = check_solution(question(row), solution).rule == "wrong_answer"
    for step in steps(solution):
        if any(equation.verdict == WRONG for equation in equations(step)):
            return begun, step, "wrong_calculation"
        said = final_answer(step)
        if misstated and said and not said.same(known):
            return begun, step, "wrong_answer"
        begun += step
    return None


def step_preferences(
    client: Client, tokenizer, rows: Sequence[Row], samples: int = 4, own: bool = True, max_tokens: int = 160,
    temperature: float = 0.5, seed: int = 0,
) -> tuple[list[Row], list[Row]]:  # fmt: skip
    """Solve each problem `samples` times, correct the first wrong step found; return (preference rows, rejects).

    rows: maths rows of `draw_known`, one pair or one reject for each; tokenizer: of the client's model, whose chat
    template begins the turn that the model goes on with, sent as plain text; own: whether the row's own first step is
    chosen where the first step is wrong and no correction is right. A correction is right when the solution that it
    leads to passes the check of `verifiers.maths`. Rejects: no_answer (calls failed or came back empty), all_right (no
    sample has another answer), not_located, not_corrected. Holds all answers, some 2 kB each: good for 100,000 rows.
    """
    columns = several_answers(client, [question(row) for row in rows], samples, max_tokens, temperature, seed)
    looked = [_look(row, answers) for row, answers in zip(rows, zip(*columns, strict=True), strict=True)]
    places = [at for at, (_, found, _) in enumerate(looked) if found]
    requests = [
        _request(tokenizer, rows[at], looked[at][1][0], max_tokens, temperature, seed + SEED_STEP * number)
        for at in places
        for number in range(samples)
    ]
    responses = client.ask(requests, label="corrected steps")
    goes_on = {at: responses[number * samples :][:samples] for number, at in enumerate(places)}
    kept, rejects = [], []
    for at, (row, (rule, found, sample)) in enumerate(zip(rows, looked, strict=True)):
        made = found and _pair(client.model.name, row, found, sample, goes_on[at], own)
        if made:
            kept.append(made)
        else:
            seen = {"source": SOURCE, "row": row["id"], "prompt": question(row), "answer": sample, "found": found}
            seen["id"] = content_id(row["id"], prefix="step_", n=12)
            rejects.append(reject(STEP, rule or "not_corrected", seen))
    return kept, rejects


def _look(row: Row, answers: Sequence[Row]) -> tuple[str, Located | None, Row]:
    """("", where the first sample whose error can be found goes wrong, that sample), or (rule, None, a sample)."""
    known, usable = final_answer(answer(row)), [one for one in answers if one["text"]]
    other = [one for one in usable if not ((said := final_answer(one["text"])) and said.same(known))]
    for one in other:
        if found := first_wrong_step(row, one["text"]):
            return "", found, one
    rule = "not_located" if other else "all_right" if usable else "no_answer"
    return rule, None, (other or usable or answers)[0]


def _request(tokenizer, row: Row, begun: str, max_tokens: int, temperature: float, seed: int) -> Request:
    text = begun_text(tokenizer, row["messages"][:1], begun)
    if tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id:  # a server puts it before a plain text by itself
        text = text.removeprefix(tokenizer.bos_token)
    return Request([{"role": "user", "content": text}], max_tokens, temperature, seed=seed, raw=True)


def _pair(model: str, row: Row, found: Located, sample: Row, goes_on: Sequence[Response], own: bool) -> Row | None:
    begun, wrong, rule = found
    right = [
        (steps(one.text)[0], model, one.call_id)
        for one in goes_on
        if one.text.strip() and not one.error and verify(row, begun + one.text, one.truncated, {}).outcome == RIGHT
    ]
    known = final_answer(answer(row))  # a try may state another one first and take it back afterwards
    right = [one for one in right if (said := final_answer(one[0])) is None or said.same(known)]
    note = {"check": "steps", "rejected": rule, "samples": len(goes_on), "right_samples": len(right)}
    if own and not right and not begun:
        right = [(steps(answer(row))[0], "reference", "")]
    if not right:
        return None
    step, writer, call = min(right, key=lambda one: abs(len(one[0]) - len(wrong)))
    calls = [one for one in (call, sample["call_id"]) if one]
    texts, parents = (step.rstrip(), wrong.rstrip()), [row["id"], *row["parents"][:1]]
    made = preference(question(row), *texts, SOURCE, writer, sample["model"], note, parents, calls)
    turn = [{"role": "assistant", "content": begun}] if begun.strip() else []
    new_id = content_id(question(row), begun, *texts, prefix="pref_", n=12)
    return made | {"id": new_id, "prompt": made["prompt"] + turn, "step": True}
