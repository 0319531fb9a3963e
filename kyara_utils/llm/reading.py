"""A raw body as a response: answer and reasoning apart, unusable endings named, log-probabilities in either layout.

Providers differ in what they send for a failure: a message that is null, a list of parts, an error inside a choice, an
error at status 200. What cannot be read is `Unreadable` before it is stored, so that no rerun meets it again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kyara_utils.llm.protocol import Response
from kyara_utils.llm.reasoning import split_reasoning

UNUSABLE = ("content_filter", "tool_calls", "function_call")  # read, paid for and kept, but no answer
BROKEN_OFF = ("error", "abort", "insufficient_system_resource")  # the provider failed on the way: asked again
# The same endings in the words of Gemini, Anthropic, Mistral, Zhipu and others.
ENDINGS = dict.fromkeys(("max_tokens", "max_output_tokens", "model_length"), "length")
ENDINGS |= dict.fromkeys(("end_turn", "stop_sequence", "eos", "eos_token"), "stop")
ENDINGS |= dict.fromkeys(
    ("safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive", "content_filtered", "refusal"),
    "content_filter",
)
SHOWN = 300  # characters of a body in an error


class Unreadable(ValueError):
    """A body that holds no answer; the message says why. `status` is the provider's error code, 0 without one."""

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class Choice(NamedTuple):
    """One answer of a body."""

    text: str
    reasoning: str
    finish_reason: str
    error: str
    logprobs: Sequence[dict[str, float]]


def read_response(key: str, raw: Any) -> Response:
    """Read a raw OpenAI body: chat or text completion. Raises `Unreadable`.

    A choice that ends in `content_filter` or `tool_calls`, or refuses, gives a response with an `error` of that name.
    Of several choices the usable ones count.
    """
    choices = raw.get("choices") if isinstance(raw, dict) else None
    if not isinstance(choices, list) or not choices:
        raise _error(raw.get("error") if isinstance(raw, dict) else None) or Unreadable(f"no choices: {_shown(raw)}")
    read = [_choice(choice) for choice in choices]
    good = [choice for choice in read if not choice.error] or read[:1]
    texts = tuple(choice.text for choice in good) if len(choices) > 1 else ()
    first = good[0]
    return Response(key, first.text, first.finish_reason, first.logprobs, first.error, texts, reasoning=first.reasoning)


def _choice(choice: Any) -> Choice:
    if not isinstance(choice, dict):
        raise Unreadable(f"a choice is no object: {_shown(choice)}")
    if error := _error(choice.get("error")):
        raise error
    message = {"content": choice["text"]} if "text" in choice and "message" not in choice else choice.get("message")
    if not isinstance(message, dict):
        raise Unreadable("the answer has no message")
    reason = str(choice.get("finish_reason") or "").lower()
    reason = ENDINGS.get(reason, reason)
    if reason in BROKEN_OFF:
        raise Unreadable(f"finish_reason {reason}: {_shown(choice)}", 502)
    content, thoughts = _parts(message.get("content"))
    text, inside, unclosed = split_reasoning(content)
    given = message.get("reasoning_content") or message.get("reasoning")
    thoughts += [part for part in (given if isinstance(given, str) else "", inside) if part]
    error = f"finish_reason {reason}" if reason in UNUSABLE else ""
    if message.get("refusal") and not text:
        error = f"refusal: {_shown(message['refusal'])}"
    # with reasoning before it, an answer's label is not the first token
    logprobs = () if thoughts else _logprobs(choice.get("logprobs"))
    return Choice(text, "\n\n".join(thoughts), "length" if unclosed else reason, error, logprobs)


def _parts(content: Any) -> tuple[str, list[str]]:
    """Return (text, reasoning) of a content: a string, null, or a list of parts as Mistral's models send it."""
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise Unreadable(f"the content is neither text nor parts: {_shown(content)}")
    texts, thoughts = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else "text"
        found = part if isinstance(part, str) else _text_of(part)
        (thoughts if kind in ("thinking", "reasoning") else texts).append(found)
    return "".join(texts), thoughts


def _text_of(part: Any) -> str:
    """The text of one part; what holds none (an image, a call) is empty."""
    if not isinstance(part, dict):
        return ""
    inner = part.get("text") or part.get("thinking") or part.get("reasoning") or ""
    return "".join(map(_text_of, inner)) if isinstance(inner, list) else inner if isinstance(inner, str) else ""


def _error(error: Any) -> Unreadable | None:
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else 0
    return Unreadable(f"error in the answer: {_shown(error)}", code if isinstance(code, int) else 0)


def _shown(value: Any) -> str:
    return " ".join(str(value).split())[:SHOWN]


def _logprobs(found: Any) -> Sequence[dict[str, float]]:
    if not isinstance(found, dict):
        return ()
    if "content" in found:
        tokens = (token.get("top_logprobs") or () for token in found["content"] or ())
        return [{top["token"]: top["logprob"] for top in tops} for tops in tokens]
    return [dict(tops or {}) for tops in found.get("top_logprobs") or ()]
