"""One row of a published preference set as a pair of answers to one prompt, or the rule by which it is none.

Read are text or turns on either side, whole conversations with or without a prompt beside them (TRL's implicit prompt,
capybara, Infinity-Preference), transcripts of `Human:` and `Assistant:` (HH), single messages, `real` and `generated`
(SPIN), and steps of a solution that has begun (Step-DPO). The prompt is everything before the last answer.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from kyara_utils.curation.turns import SYSTEM_KEYS, Message, Unreadable, merged, text_of, turn_of
from kyara_utils.models.chat_templates import check_turns
from kyara_utils.runs.tables import Row
from kyara_utils.training.pair_rows import SIDES, check_pair_turns, split_turns

FIELDS = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"))
FIELDS += (("real", "generated"),)
PROMPTS = ("prompt", "instruction", "question", "input", "conversations")
BEGUN = "initial_reason_steps"  # of Step-DPO: the steps before the two that are compared
RATINGS = ("{}_avg_rating", "{}-rating", "{}_rating", "rating_{}", "score_{}", "{}_score")
MODELS = ("{}_model", "{}-model", "model_{}")
_SPOKEN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]*")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def pair_of(item: Any) -> Row:
    """Return prompt, chosen, rejected (lists of messages), step, ratings and models (of chosen and rejected, or None).

    Raises `Unreadable` by rule: `no_pair`, `kto_row`, those of `curation.turns` for a turn, `bad_turns` (roles swapped,
    no question, sides of different conversations), `same_answers` (but for white space), and `bad_rating` (no finite
    number), `tied_rating` or `reversed_rating` where both sides are rated.
    """
    if not isinstance(item, dict):
        raise Unreadable("no_pair", f"a {type(item).__name__}, not an object")
    pair = _step_pair(item) if isinstance(item.get(BEGUN), str) else _answer_pair(item)
    for side in SIDES:
        if problem := check_pair_turns(pair, side):
            raise Unreadable("bad_turns", f"{side}: {problem}")
    chosen, rejected = (" ".join(pair[side][-1]["content"].split()) for side in SIDES)
    if chosen == rejected:
        raise Unreadable("same_answers", chosen[:60])
    return pair | {"ratings": _ratings(item), "models": _both(item, MODELS)}


def _step_pair(item: Row) -> Row:
    """A problem, the steps that have begun its solution, and two next steps; all texts stay as they are."""
    begun = item[BEGUN]
    prompt = [_message("user", item.get("prompt"), "prompt")]
    prompt += [{"role": "assistant", "content": begun}] if begun.strip() else []
    return {"prompt": prompt, "step": True} | {side: [_message("assistant", item.get(side), side)] for side in SIDES}


def _answer_pair(item: Row) -> Row:
    fields = next((names for names in FIELDS if all(name in item for name in names)), None)
    if not fields:
        kto = "completion" in item and "label" in item
        raise Unreadable("kto_row" if kto else "no_pair", f"fields {', '.join(map(str, list(item)[:8]))}")
    prompt = _history(item) + _turns(_asked(item), "user", "prompt")
    sides = {side: _turns(item[name], "assistant", side) for side, name in zip(SIDES, fields, strict=True)}
    pair, problem = split_turns({"prompt": prompt, "step": False} | sides)
    if problem:
        raise Unreadable("bad_turns", problem)
    system = next((item[key] for key in SYSTEM_KEYS if isinstance(item.get(key), str) and item[key].strip()), "")
    if system and pair["prompt"] and pair["prompt"][0]["role"] != "system":
        pair["prompt"] = [{"role": "system", "content": system.strip()}, *pair["prompt"]]
    if pair["prompt"] and not check_turns(pair["prompt"]):
        raise Unreadable("bad_turns", "the prompt ends with an answer, which no column says to be a begun one")
    return pair


def _asked(item: Row) -> Any:
    """What the prompt's field holds, None where there is none or nothing in it; `input` completes an instruction."""
    name = next((name for name in PROMPTS if not _blank(item.get(name))), "")
    if name == "instruction" and isinstance(item.get("input"), str) and item["input"].strip():
        return f"{item[name]}\n{item['input']}"
    return item.get(name)


def _blank(value: Any) -> bool:
    return not value.strip() if isinstance(value, str) else not value


def _history(item: Row) -> list[Message]:
    history = item.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise Unreadable("bad_turns", "history is no list of pairs")
    return [
        _message(role, text, "history")
        for pair in history
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _turns(value: Any, role: str, where: str) -> list[Message]:
    """The turns of a prompt or side: text, a transcript, one message or a list of them; a prompt may be missing."""
    value = [value] if isinstance(value, dict) else value
    try:
        if _blank(value):
            return [] if where == "prompt" else [_message(role, None, "nothing")]
        if isinstance(value, list):
            return merged(map(turn_of, value))
        if isinstance(value, str) and _SPOKEN.match(value):
            return _transcript(value.removesuffix("\n\nAssistant:") if where == "prompt" else value)
        return [_message(role, value, where)]
    except Unreadable as error:
        raise Unreadable(error.rule, f"{where}: {error}") from error


def _transcript(text: str) -> list[Message]:
    """Turns of a text in which `Human:` and `Assistant:` begin paragraphs."""
    _, *parts = _SPOKEN.split(text)
    spoken = [(_SPEAKERS[name], said.strip()) for name, said in zip(parts[::2], parts[1::2], strict=True)]
    return merged((role, text_of(said, role)) for role, said in spoken)


def _message(role: str, text: Any, where: str) -> Message:
    return {"role": role, "content": text_of(text, where)}


def _both(item: Row, patterns: Sequence[str]) -> tuple[Any, Any]:
    """The values of chosen and rejected under the first pattern that the row has."""
    named = [[pattern.format(side) for side in SIDES] for pattern in patterns]
    chosen, rejected = next((names for names in named if any(name in item for name in names)), ("", ""))
    return item.get(chosen), item.get(rejected)


def _ratings(item: Row) -> tuple[float, float] | None:
    chosen, rejected = _both(item, RATINGS)
    if chosen is None or rejected is None:
        return None
    if not all(type(value) in (int, float) and math.isfinite(value) for value in (chosen, rejected)):
        raise Unreadable("bad_rating", f"{chosen!r} and {rejected!r}")
    if chosen <= rejected:
        raise Unreadable("tied_rating" if chosen == rejected else "reversed_rating", f"{chosen} and {rejected}")
    return float(chosen), float(rejected)
