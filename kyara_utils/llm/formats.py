"""Answers in the wrong format: JSON found in what a model wrapped it in, what is wrong with one, how it is asked again.

One strict try; then what is complete within the text; then json-repair, for trailing commas, typographic quotes and
lost brackets. A value that breaks off is not completed: a guess would pass for an answer.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from typing import Any
from unicodedata import normalize

from kyara_utils.llm.prompts import load_prompt
from kyara_utils.llm.protocol import Request

Check = Callable[[str], str]
SHOWN = 2000  # characters of a bad answer that are sent back
TRIED = 20  # openings of one text that may begin its JSON
FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.S)
OPENING = re.compile(r"[{\[]")
FULL_WIDTH = re.compile('[［］｛｝]|(?<=[”"\\]］}｝])\\s*[：，](?=\\s*[“"\\[［{｛])')  # marks between quotes
CLOSING = {"{": "}", "[": "]"}
COMPLETE = '"”]}'  # what a value ends in
DEEPEST = 50  # brackets within brackets; the repair of text that opens thousands takes minutes
NOT_JSON = (ValueError, RecursionError)


def checked(text: str, schema: dict[str, Any] | None, check: Check | None, whole: bool = True) -> tuple[str, str]:
    """Return (text, what is wrong with it or ""); with a schema the text becomes the plain JSON that fits it.

    whole: the token limit did not cut the text, so that its JSON may be looked for and repaired.
    """
    if schema is not None:
        text, problem = fitting(text, schema, whole)
        if problem or check is None:
            return text, problem
    return text, check(text) if check else ""


def fitting(text: str, schema: dict[str, Any], whole: bool = True) -> tuple[str, str]:
    """Return (JSON that fits a schema, "") or (the text, what is wrong). Draft 2020-12, by `jsonschema`.

    Of several blocks the first that fits counts.
    """
    from jsonschema import Draft202012Validator

    validator, first = Draft202012Validator(schema), ""
    try:
        found: Iterator[Any] = iter([json.loads(text)])
        written = text
    except NOT_JSON as error:
        first, written = f"not JSON: {error}"[:200], ""
        found = json_values(text, repair=True) if whole else iter(())
    for value in found:
        problem = next(iter(validator.iter_errors(value)), None)
        if problem is None:
            return written or json.dumps(value, ensure_ascii=False), ""
        first = first or f"at {problem.json_path}: {problem.message}"[:200]
    return text, first


def json_values(text: str, repair: bool = False) -> Iterator[Any]:
    """Yield the JSON objects and lists in a text, those of code fences alone where it has any, outermost first.

    repair: yield also what json-repair makes of a part that begins with a bracket.
    """
    for block in FENCE.findall(text) or [text]:
        yield from _values(block, repair)


def _values(block: str, repair: bool) -> Iterator[Any]:
    decoder, position = json.JSONDecoder(), 0
    for _ in range(TRIED):
        opening = OPENING.search(block, position)
        if opening is None:
            return
        try:
            value, position = decoder.raw_decode(block, opening.start())
            yield value
        except NOT_JSON:
            position = opening.end()
            if repair:
                yield from _repaired(block, opening.start())


def _repaired(block: str, start: int) -> Iterator[Any]:
    """What json-repair makes of the part up to the last closing bracket of its kind.

    Where that is missing, the rest counts if nothing but brackets can be lost, and nothing does if a value broke off.
    """
    from json_repair import repair_json

    rest = FULL_WIDTH.sub(lambda mark: normalize("NFKC", mark.group()), block[start:]).rstrip()
    part = rest[: rest.rfind(CLOSING[rest[0]]) + 1] or (rest if rest[-1] in COMPLETE else "")
    if not part or _depth(part) > DEEPEST:
        return
    with suppress(*NOT_JSON):
        value = repair_json(part, return_objects=True)
        if value and isinstance(value, dict | list):
            yield value


def _depth(part: str) -> int:
    return max(accumulate((mark in "{[") - (mark in "}]") for mark in part))


def retry_request(request: Request, text: str, problem: str, completion: bool) -> Request:
    """Return the request that asks once more: a chat is told what was wrong, a base model just draws again."""
    if completion or request.raw:
        return replace(request, seed=request.seed + 1_000_003)
    correction = load_prompt("llm/reask").messages(problem=problem)
    answer = {"role": "assistant", "content": text[:SHOWN]}
    return replace(request, messages=[*request.messages, answer, *correction])
