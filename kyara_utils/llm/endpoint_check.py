"""What an OpenAI-compatible address can do, asked of it: answers, streams, system turns, seeds, log-probabilities.

A server that answers may still leave the chat template out, refuse a system turn or ignore a schema; each such fault
shows up hours later as odd rows. Some ten short requests find them.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from kyara_utils.llm.endpoints import Model
from kyara_utils.llm.prompts import Message
from kyara_utils.llm.protocol import Request, Response
from kyara_utils.llm.streaming import asked, content, fetch, opened, stream
from kyara_utils.runs.errors import KyaraError

QUESTION: list[Message] = [{"role": "user", "content": "請用一句話介紹台灣的玉山。"}]
SCHEMA = {
    "type": "object", "properties": {"answer": {"type": "string", "enum": ["是", "否"]}}, "required": ["answer"],
    "additionalProperties": False,
}  # fmt: skip
MARKS = re.compile(r"<\w{0,20}of_turn>|<\|[a-z_]{1,20}\|>|\[/?INST\]|</s>")
ALTERNATIVES = 20  # log-probabilities a token that verdicts are read from


class Finding(NamedTuple):
    """One line: what was asked of the address, how it stands, what to do where something is missing, and whether
    nothing works without it."""

    name: str
    state: str
    fix: str = ""
    needed: bool = False


def check_endpoint(model: Model, count: Callable[[list[Message]], int] | None = None) -> Iterator[Finding]:
    """Ask an address what it can do; stops after an address that does not answer.

    count: tokens of a conversation by the model's own chat template; where the server counts others, it applies another
    template or tokenizer than the model was trained with.
    """
    if (names := _listed(model)) is not None:
        yield _models(model, names)
    model = model if model.model or not names else replace(model, model=names[0])
    try:
        yield _answers(model, count)
    except KyaraError as error:
        yield _missing("answers", error)._replace(needed=True)
        return
    for name, look in LOOKS.items():
        try:
            yield look(model)
        except KyaraError as error:
            yield _missing(name, error)


def _missing(name: str, error: KyaraError) -> Finding:
    state, _, fix = str(error).rpartition("; ")
    return Finding(name, state or str(error), fix or "see docs/add-a-provider.md")


def _listed(model: Model) -> list[str] | None:
    """Names of the models there; None where nothing lists them: some gateways answer without."""
    try:
        with fetch(model, model.urls[0] + "/models") as reply:
            listed = _json(model, reply).get("data") or []
    except KyaraError:
        return None
    return [str(one.get("id")) for one in listed if isinstance(one, dict)]


def _json(model: Model, reply: Any) -> dict[str, Any]:
    try:
        found = json.loads(content(model, reply) or b"{}")
    except ValueError as error:
        raise KyaraError(f"{model.name} sent no JSON; is this address an API's?") from error
    return found if isinstance(found, dict) else {}


def _models(model: Model, names: list[str]) -> Finding:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    there = not names or not model.model or model.model in names
    fix = "" if there else f"it has no {model.model}: set model to one of these"
    return Finding("models", shown or "no list", fix, True)


def _answers(model: Model, count: Callable[[list[Message]], int] | None) -> Finding:
    begun = time.monotonic()
    response = asked(model, model.urls[0], Request(QUESTION, max_tokens=48))
    seconds = time.monotonic() - begun
    text = " ".join(response.text.split())
    state = f"{seconds:.1f} s: {text[:60]}" if text else "an empty answer"
    if marks := MARKS.search(text):
        return Finding(
            "answers",
            state,
            f"{marks.group()} stands in the text: a base model, or its chat template is not applied",
            True,
        )
    if count and text:
        return _counted(model, state, count)
    return Finding("answers", state, "" if text else "look at it with curl", True)


def _counted(model: Model, state: str, count: Callable[[list[Message]], int]) -> Finding:
    with opened(model, model.urls[0], Request(QUESTION, max_tokens=1)) as reply:
        usage = _json(model, reply).get("usage") or {}
    theirs, ours = usage.get("prompt_tokens"), count(QUESTION)
    told = f"{ours} prompt tokens as in training" if theirs == ours else f"{theirs} prompt tokens, {ours} in training"
    fix = "" if theirs in (None, ours) else "another chat template or tokenizer than in training"
    return Finding("answers", f"{state} ({told})", fix, True)


def _streams(model: Model) -> Finding:
    begun, first, pieces = time.monotonic(), 0.0, 0
    for _ in stream(model, model.urls[0], Request(QUESTION, max_tokens=24)):
        pieces, first = pieces + 1, first or time.monotonic() - begun
    return Finding(
        "streams", f"first words after {first:.2f} s, {pieces} pieces" if pieces > 2 else "the whole at once"
    )


def _system(model: Model) -> Finding:
    turn = {"role": "system", "content": "你只用繁體中文回答。"}
    try:
        asked(model, model.urls[0], Request([turn, *QUESTION], max_tokens=8))
    except KyaraError as error:
        return Finding("system turn", f"refused ({str(error)[:80]})", "set system_role: false in params/models.yaml")
    return Finding("system turn", "taken")


def _seeds(model: Model) -> Finding:
    request = Request(QUESTION, max_tokens=24, temperature=1.0, seed=7)
    one, two = (asked(model, model.urls[0], request).text for _ in range(2))
    return Finding("seed", "obeyed" if one == two else "not obeyed: the ledger alone makes a rerun equal")


def _logprobs(model: Model) -> Finding:
    response: Response = asked(model, model.urls[0], Request(QUESTION, max_tokens=1, top_logprobs=ALTERNATIVES))
    number = len(response.logprobs[0]) if response.logprobs else 0
    fix = "" if number else "let another model judge, or use judge_mode: text"
    return Finding("log-probs", f"{number} a token" if number else "none", fix)


def _schema(model: Model) -> Finding:
    question = [{"role": "user", "content": '玉山在台灣嗎？請用 JSON 回答，例如 {"answer": "是"}。'}]
    response = asked(model, model.urls[0], Request(question, max_tokens=48, schema=SCHEMA))
    text = response.text
    try:
        held = json.loads(text).get("answer") in ("是", "否")
    except (ValueError, AttributeError):
        held = False
    shown = " ".join(text.split())[:40]
    if held:
        return Finding("JSON schema", f"held: {shown}")
    why = "cut before its end" if response.truncated else "not held"
    return Finding("JSON schema", f"{why}: {shown} (such answers are repaired, or asked again)")


LOOKS: dict[str, Callable[[Model], Finding]] = {
    "streams": _streams, "system turn": _system, "seed": _seeds, "log-probs": _logprobs, "JSON schema": _schema,
}  # fmt: skip
