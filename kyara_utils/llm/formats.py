"""Answers in the wrong format: what is wrong with one, and how it is asked again."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kyara_utils.llm.prompts import load_prompt
from kyara_utils.llm.protocol import Request

Check = Callable[[str], str]
SHOWN = 2000  # characters of a bad answer that are sent back


def schema_problem(schema: dict[str, Any]) -> Check:
    """Return a check of JSON text against a schema (draft 2020-12, by `jsonschema`)."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(schema)

    def check(text: str) -> str:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            return f"not JSON: {error}"[:200]
        problem = next(iter(validator.iter_errors(found)), None)
        return f"at {problem.json_path}: {problem.message}"[:200] if problem else ""

    return check


def retry_request(request: Request, text: str, problem: str, completion: bool) -> Request:
    """Return the request that asks once more: a chat is told what was wrong, a base model just draws again."""
    if completion or request.raw:
        return replace(request, seed=request.seed + 1_000_003)
    correction = load_prompt("llm/reask").messages(problem=problem)
    answer = {"role": "assistant", "content": text[:SHOWN]}
    return replace(request, messages=[*request.messages, answer, *correction])
