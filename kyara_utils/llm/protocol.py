"""OpenAI's protocol in both directions: a request as the bytes of one model's dialect, a raw body as a response."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kyara_utils.llm.endpoints import Model
from kyara_utils.llm.prompts import Message, plain_text

# Names under which engines take what OpenAI's own API lacks; a field that an engine does not know is left out.
PENALTY = {"llamacpp": "repeat_penalty", "vllm": "repetition_penalty", "sglang": "repetition_penalty"}
PLAIN_SCHEMA = {"llamacpp": "json_schema", "vllm": "guided_json", "sglang": "json_schema"}


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model. `top_logprobs` > 0 asks for that many log-probabilities per token.

    sample: number of this answer among several to the same messages; n: answers wanted from this one call.
    raw: send the messages as plain text even to a chat model (log-likelihood protocols want the bare text).
    """

    messages: list[Message]
    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    top_logprobs: int = 0
    repeat_penalty: float = 1.0
    seed: int = 0
    sample: int = 0
    raw: bool = False
    n: int = 1


@dataclass(slots=True)
class Response:
    """One answer. `error` is empty unless the call failed for good or its format never came right.

    logprobs: {token: log-probability} per token; texts: all answers when the request asked for n > 1;
    earlier: ids of the calls whose format was wrong, before `call_id` was asked.
    """

    call_id: str
    text: str = ""
    finish_reason: str = ""
    logprobs: Sequence[dict[str, float]] = ()
    error: str = ""
    texts: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut the answer."""
        return self.finish_reason == "length"

    @property
    def call_ids(self) -> list[str]:
        """Every call that this answer cost, the last one its own."""
        return [*self.earlier, self.call_id]


def render(model: Model, request: Request) -> tuple[str, bytes]:
    """Return (path, JSON body) in the model's dialect; keys are sorted, so that equal requests are equal bytes."""
    body: dict[str, Any] = {
        "model": model.model or model.name,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.n > 1:
        body["n"] = request.n
    engine = "llamacpp" if model.embedded else model.engine
    if request.repeat_penalty != 1.0 and engine in PENALTY:
        body[PENALTY[engine]] = request.repeat_penalty
    completion = model.dialect == "completion" or request.raw
    body |= _completion(request, engine) if completion else _chat(model, request)
    for name in model.omit:
        body.pop(name, None)
    return "/completions" if completion else "/chat/completions", orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def _completion(request: Request, engine: str) -> dict[str, Any]:
    extra: dict[str, Any] = {"prompt": plain_text(request.messages)}
    if request.schema and engine in PLAIN_SCHEMA:
        extra[PLAIN_SCHEMA[engine]] = request.schema
    if request.top_logprobs:
        extra["logprobs"] = request.top_logprobs
    return extra


def _chat(model: Model, request: Request) -> dict[str, Any]:
    messages = request.messages
    if model.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": model.system}, *messages]
    if not model.system_role:
        messages = fold_system(messages)
    extra: dict[str, Any] = {"messages": messages}
    if request.schema:
        schema = {"name": "answer", "schema": request.schema, "strict": True}
        extra["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.top_logprobs:
        extra |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return extra


def fold_system(messages: list[Message]) -> list[Message]:
    """Put the system turn at the head of the first user turn."""
    if messages[0]["role"] != "system" or len(messages) < 2:
        return messages
    first = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]


def read_response(key: str, raw: dict[str, Any]) -> Response:
    """Read a raw OpenAI body: chat or text completion, log-probabilities in either published layout."""
    texts = tuple(_text(choice) for choice in raw["choices"])
    first = raw["choices"][0]
    reason = first.get("finish_reason") or ""
    return Response(key, texts[0], reason, _logprobs(first.get("logprobs")), texts=texts if len(texts) > 1 else ())


def _text(choice: dict[str, Any]) -> str:
    return (choice["message"].get("content") if "message" in choice else choice.get("text")) or ""


def _logprobs(found: dict[str, Any] | None) -> Sequence[dict[str, float]]:
    if not found:
        return ()
    if "content" in found:
        return [{top["token"]: top["logprob"] for top in token["top_logprobs"]} for token in found["content"] or ()]
    return [dict(tops) for tops in found.get("top_logprobs") or ()]
