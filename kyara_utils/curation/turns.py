"""One row of a published set as a conversation, or the rule by which it is none.

The sets spell the same thing in many ways: `messages` (role/content), `conversations` (ShareGPT: from/value), a
question and an answer in two fields (Alpaca and its kin) with `system` and `history` beside them. What cannot be read
is named by a rule, whatever somebody published.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Message = dict[str, str]
LISTS = ("messages", "conversations", "conversation", "dialogue")
ROLE_KEYS, TEXT_KEYS = ("role", "from", "speaker"), ("content", "value", "text")
PAIRS = (("instruction", "output"), ("instruction", "response"), ("prompt", "response"), ("prompt", "completion"))
PAIRS += (("question", "answer"), ("query", "response"), ("input", "output"))
SYSTEM_KEYS = ("system", "system_prompt")
ROLES = dict.fromkeys(("user", "human", "prompter", "question", "instruction"), "user")
ROLES |= dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai", "bing", "bard", "answer"), "assistant")
ROLES |= {"system": "system", "developer": "system"}
TOOLS = {"tool", "function", "function_call", "function_response", "tool_call", "tool_response", "observation"}
TOOLS |= {"ipython", "environment"}


_HALF = re.compile("[\ud800-\udfff]")


class Unreadable(Exception):
    """The row is no conversation of people and model in text; `rule` says why, `str()` what was found."""

    def __init__(self, rule: str, found: str) -> None:
        super().__init__(found)
        self.rule = rule


def messages_of(item: Any) -> list[Message]:
    """Return a conversation that begins with a user (after one system turn at most) and ends with an answer.

    Turns of one role in a row become one, a question without an answer at the end is left off. Raises `Unreadable` by
    rule: `no_conversation`, `unknown_role`, `tool_turn`, `empty_turn`, `not_text`, `no_question` or `no_answer`.
    """
    if not isinstance(item, dict):
        raise Unreadable("no_conversation", f"a {type(item).__name__}, not an object")
    return _whole(merged(_turns(item)))


def merged(turns: Iterable[tuple[str, str]]) -> list[Message]:
    """Return the messages of (role, text) pairs, turns of one role in a row as one."""
    messages: list[Message] = []
    for role, text in turns:
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n\n" + text
        else:
            messages.append({"role": role, "content": text})
    return messages


def _whole(messages: list[Message]) -> list[Message]:
    body = messages[1:] if messages and messages[0]["role"] == "system" else messages
    if not body or body[0]["role"] != "user":
        raise Unreadable("no_question", f"begins with {body[0]['role']}" if body else "no turn of a user")
    if strange := [message for message in body if message["role"] == "system"]:
        raise Unreadable("unknown_role", f"a system turn after the first: {strange[0]['content'][:40]}")
    if messages[-1]["role"] == "user":
        messages = messages[:-1]
    if not messages or messages[-1]["role"] != "assistant":
        raise Unreadable("no_answer", "no turn of the model")
    return messages


def _turns(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(role, text) in order, of whatever layout the row has."""
    lists = (_parsed(item.get(key)) for key in LISTS)
    listed = next((found for found in lists if isinstance(found, list) and found), None)
    turns = list(map(turn_of, listed)) if listed is not None else list(_pair(item))
    system = next((item[key] for key in SYSTEM_KEYS if isinstance(item.get(key), str) and item[key].strip()), "")
    if system and not any(role == "system" for role, _ in turns):
        yield "system", system.strip()
    yield from turns


def _parsed(value: Any) -> Any:
    """A list of turns, which some Parquet files hold as JSON in a text."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def turn_of(turn: Any) -> tuple[str, str]:
    """Return (role, text) of a turn in any of the usual spellings; raises `Unreadable`."""
    if not isinstance(turn, dict):
        raise Unreadable("no_conversation", f"a turn is a {type(turn).__name__}, not an object")
    named = next((turn[key] for key in ROLE_KEYS if turn.get(key) is not None), None)
    role = str(named).strip().lower().replace("-", "_")
    if role in TOOLS or turn.get("tool_calls") or turn.get("function_call"):
        raise Unreadable("tool_turn", f"role {role}")
    if role not in ROLES:
        raise Unreadable("unknown_role", f"role {named!r}"[:60])
    return ROLES[role], text_of(next((turn[key] for key in TEXT_KEYS if key in turn), None), role)


def _pair(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Question and answer from two fields, after the pairs of `history`; `input` completes an instruction."""
    ask, reply = next((pair for pair in PAIRS if all(item.get(key) is not None for key in pair)), ("", ""))
    if not ask:
        raise Unreadable("no_conversation", f"fields {', '.join(map(str, list(item)[:8]))}")
    history = item.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise Unreadable("no_conversation", "history is no list of pairs")
        yield "user", text_of(pair[0], "history")
        yield "assistant", text_of(pair[1], "history")
    extra = item.get("input") if ask == "instruction" else None
    yield "user", text_of(item[ask], ask) + ("\n" + text_of(extra, "input") if extra else "")
    yield "assistant", text_of(item[reply], reply)


def text_of(value: Any, where: str) -> str:
    """Return the text of a turn: a string, or the text parts of a list of parts; raises `Unreadable`."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        if strange := [part for part in parts if not isinstance(part, str)]:
            raise Unreadable("not_text", f"{where}: a part without text ({type(strange[0]).__name__})")
        value = "\n".join(parts)
    if value is not None and not isinstance(value, str):
        raise Unreadable("not_text", f"{where}: {type(value).__name__}")
    if not value or not value.strip():
        raise Unreadable("empty_turn", where)
    if _HALF.search(value):
        raise Unreadable("not_text", f"{where}: half a surrogate pair")
    return value
