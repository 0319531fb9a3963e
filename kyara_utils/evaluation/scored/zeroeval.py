"""Scorers of ZeroEval's answers in JSON: GSM8K, MATH-L5, CRUX, MMLU-Redux (ZebraLogic is in `zebra`).

Protocol and reference: WildEval/ZeroEval, `src/evaluation/{eval_utils,math_eval,crux_eval,mcqa_eval}.py` at 8c1485e,
which is also where Kyara's card has these columns from. `strict` is that protocol, figure for figure; `lenient` reads
answers that are there but not in the form asked for. What lies between the two is the parser's doing, not the model's.

Model output is untrusted. Nothing is evaluated, every pattern is linear, and an output longer than `LONGEST`
characters is unscored: the protocol allows 4,096 tokens, a fiftieth of that.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from kyara_utils.evaluation.scored.rational import evaluate
from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, WRONG, outcome
from kyara_utils.runs.tables import Row

LONGEST = 1_000_000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BRACE = re.compile(r"[{}]")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
BOXED = re.compile(r"\\boxed\{(\w+)\}")
ANY_BOXED = re.compile(r"\\boxed\{([^{}]{1,200})\}")
ONE_LETTER = re.compile(r"(?<![A-Za-z])[A-J](?![A-Za-z])")
STATED = (
    re.compile(r'"answer"\s*+:\s*+"([^"]*+)"'),
    re.compile(r'"answer"\s*+:\s*+([^,\s]*+)'),
    re.compile(r"answer\s*+:\s*+([^,\s]*+)"),
)


def output_text(row: Row) -> str:
    """Return a row's raw output; upstream files hold a list of samples, of which the first counts."""
    output = row["output"]
    output = output[0] if isinstance(output, list) and output else output
    return output if isinstance(output, str) else ""


def within(text: str) -> str:
    """The text, or "" when it is longer than `LONGEST` characters: unscored then."""
    return text if len(text) <= LONGEST else ""


def json_spans(text: str) -> Iterator[str]:
    """Yield each outermost {…} of balanced braces, counted without regard to strings, as the protocol does."""
    depth = start = 0
    for brace in BRACE.finditer(text):
        if brace[0] == "{":
            start = start if depth else brace.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                yield text[start : brace.end()]


def load_object(span: str) -> Row | None:
    """Parse one span with its line breaks removed; None when it is no valid JSON object."""
    try:
        value = json.loads(span.replace("\n", ""))
    except (ValueError, RecursionError):  # also numbers of thousands of digits and towers of brackets
        return None
    return value if isinstance(value, dict) else None


def first_object(text: str) -> Row | None:
    """Return the first complete JSON object; a first span that is not valid JSON ends the search."""
    span = next(json_spans(text), None)
    return load_object(span) if span is not None else None


def last_object(text: str) -> Row | None:
    """Return the last complete JSON object; a last span that is not valid JSON ends the search."""
    spans = list(json_spans(text))
    return load_object(spans[-1]) if spans else None


def stated_answer(text: str, found: Row | None, model: str, empty_counts: bool = True) -> Any:
    """Return what the protocol takes for the answer, or None: the object's, else the text's `"answer": …`.

    Models named Llama-3.1 have one more way: a `\\boxed{…}` when the last 30 characters speak of one. With
    `empty_counts` False (multiple choice) an empty or null answer is none. A JSON null is otherwise "None".
    """
    if found is not None and "answer" in found:
        answer = "None" if found["answer"] is None and empty_counts else found["answer"]
    else:
        answer = next((match[1] for match in (pattern.search(text) for pattern in STATED) if match), None)
    if answer is None or (answer == "" and not empty_counts):
        boxed = BOXED.search(text) if "Llama-3.1" in model and "boxed" in text[-30:] else None
        return boxed[1] if boxed else None
    return answer


def score_number(text: str, gold: str, model: str = "") -> Row:
    """Score GSM8K or MATH-L5: the first number of the answer must equal the gold answer's as a float."""
    answer = stated_answer(text, first_object(text), model)
    key = _number(gold.replace("#", ""))
    strict = UNSCORED if answer is None else _same(_number(_text(answer)), key)
    boxed = ANY_BOXED.findall(text)
    last = _last_number(boxed[-1]) or _last_number(text) if boxed else _last_number(text)
    lenient = UNSCORED if not last else _same(float(last), key)
    return {"strict": strict, "lenient": lenient, "strict_answer": _short(answer), "lenient_answer": last[:40]}


def _number(answer: str) -> float | None:
    """First number after the protocol's tidying: no $ or commas, and a/b worked out."""
    tidy = answer.replace("$", "").strip().replace(",", "")
    value = evaluate(tidy) if "/" in tidy else None
    found = NUMBER.search(tidy if value is None else str(value))
    return float(found[0]) if found else None


def _same(value: float | None, key: float | None) -> str:
    return CORRECT if value is not None and value == key else WRONG


def _last_number(text: str) -> str:
    last = ""
    for match in NUMBER.finditer(text.replace(",", "")):
        last = match[0]
    return last


def score_string(text: str, gold: str, model: str = "") -> Row:
    """Score CRUX: the answer must equal the gold literal once outer quotes are stripped. No code is run.

    `lenient` takes the last object's answer, else the last line, and forgives spaces and quotes.
    """
    answer = stated_answer(text, first_object(text), model)
    stated = _text(answer).strip("'\"").replace("\n", "\\n")
    strict = UNSCORED if answer is None else outcome(stated == gold.strip("'\""))
    late = stated_answer(text, last_object(text), model)
    lines = text.strip().rsplit("\n", 1)
    late = _text(late) if late is not None else lines[-1].rpartition("==")[2]
    lenient = outcome(_bare(late) == _bare(gold)) if late.strip() or answer is not None else UNSCORED
    return {"strict": strict, "lenient": lenient, "strict_answer": _short(answer), "lenient_answer": late[:40]}


def _bare(literal: str) -> str:
    return "".join(literal.split()).translate({ord("'"): None, ord('"'): None})


def score_letter(text: str, choices: list[str], gold: str, model: str = "") -> Row:
    """Score MMLU-Redux: the last object's answer is the letter of `gold` in `choices`, or contains it as `C)`.

    `lenient` takes the first lone letter of the answer, a choice repeated word for word, else the text's last lone
    letter. Raises ValueError when `gold` is no choice.
    """
    letter = LETTERS[choices.index(gold)]
    answer = stated_answer(text, last_object(text), model, empty_counts=False)
    stated = _text(answer)
    strict = UNSCORED if answer is None else outcome(stated == letter or f"{letter})" in stated)
    late = _lone_letter(stated, choices) if answer is not None else (ONE_LETTER.findall(text) or [""])[-1]
    lenient = outcome(late == letter) if late else UNSCORED if answer is None else WRONG
    return {"strict": strict, "lenient": lenient, "strict_answer": _short(answer), "lenient_answer": late}


def _lone_letter(answer: str, choices: list[str]) -> str:
    same = [LETTERS[i] for i, choice in enumerate(choices) if choice.strip().lower() == answer.strip().lower()]
    found = ONE_LETTER.search(answer)
    return same[0] if same else found[0] if found else ""


def _text(answer: Any) -> str:
    return answer if isinstance(answer, str) else str(answer)


def _short(answer: Any) -> str:
    return "" if answer is None else _text(answer)[:40]


def summarise(scored: list[Row]) -> dict[str, float]:
    """Return percentages over all rows: `accuracy` and `no_answer` by protocol, `lenient`, `band` between; `total`.

    The denominator is always all rows, as in the protocol. Raises ZeroDivisionError for no rows at all.
    """
    n = len(scored)
    strict, lenient = ([row[rule] for row in scored] for rule in ("strict", "lenient"))
    accuracy, loose = strict.count(CORRECT) / n * 100, lenient.count(CORRECT) / n * 100
    gap = {"lenient": loose, "band": abs(loose - accuracy)}
    return {"accuracy": accuracy, "no_answer": strict.count(UNSCORED) / n * 100, **gap, "total": n}
