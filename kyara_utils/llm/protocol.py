"""OpenAI's protocol: a request as the bytes of one model's dialect, and what a response is (`reading` makes it)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from kyara_utils.llm.endpoints import Model
from kyara_utils.llm.prompts import Message, plain_text

# Names under which engines take what OpenAI's own API lacks; a field that an engine does not know is left out.
PENALTY = {"llamacpp": "repeat_penalty", "vllm": "repetition_penalty", "sglang": "repetition_penalty"}
# Most alternatives per token: OpenAI's limit and vLLM's default (--max-logprobs); its old text endpoint gives five.
# llama.cpp and the models that this process serves give as many as are asked for.
MOST_LOGPROBS = {"openai": 20, "vllm": 20, "sglang": 20}
OLD_LOGPROBS = 5


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
    reasoning: what the model thought aloud; it is no part of `text`.
    """

    call_id: str
    text: str = ""
    finish_reason: str = ""
    logprobs: Sequence[dict[str, float]] = ()
    error: str = ""
    texts: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    reasoning: str = ""

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
        "max_tokens": request.max_tokens + model.reasoning_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.stop and not model.reasoning_tokens:  # it would end the reasoning; see `stopped`
        body["stop"] = list(request.stop)
    if request.n > 1:
        body["n"] = request.n
    engine = "llamacpp" if model.embedded else model.engine
    if request.repeat_penalty != 1.0 and engine in PENALTY:
        body[PENALTY[engine]] = request.repeat_penalty
    completion = model.dialect == "completion" or request.raw
    body |= _completion(model, request, engine) if completion else _chat(model, request, engine)
    body |= model.extra
    for name, theirs in model.rename.items():
        if name in body:
            body[theirs] = body.pop(name)
    for name in model.omit:
        body.pop(name, None)
    return "/completions" if completion else "/chat/completions", orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def stopped(model: Model, request: Request, response: Response) -> Response:
    """Return what a model that thinks aloud answered up to the first stop text, which the server was not told.

    Behind reasoning an answer may begin with blank lines; these end nothing.
    """
    if not (request.stop and model.reasoning_tokens):
        return response
    texts = [_before(text.lstrip(), request.stop) for text in (response.text, *response.texts)]
    ended = "stop" if texts[0] != response.text.lstrip() else response.finish_reason
    return replace(response, text=texts[0], texts=tuple(texts[1:]), finish_reason=ended)


def _before(text: str, stops: Sequence[str]) -> str:
    return text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]


def _completion(model: Model, request: Request, engine: str) -> dict[str, Any]:
    extra: dict[str, Any] = {"prompt": plain_text(request.messages)}
    if request.schema:
        extra |= _plain_schema(request.schema, engine)
    if request.top_logprobs:
        extra["logprobs"] = _alternatives(
            model, request, OLD_LOGPROBS if engine == "openai" else MOST_LOGPROBS.get(engine)
        )
    return extra


def _plain_schema(schema: dict[str, Any], engine: str) -> dict[str, Any]:
    """The field that constrains a text completion; OpenAI's own has none. vLLM dropped `guided_json` in 0.12."""
    if engine == "vllm":
        return {"structured_outputs": {"json": schema}}
    if engine == "sglang":
        return {"json_schema": orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode()}  # a string there
    return {"json_schema": schema} if engine == "llamacpp" else {}


def _alternatives(model: Model, request: Request, most: int | None) -> int:
    return min(request.top_logprobs, model.top_logprobs or most or request.top_logprobs)


def _chat(model: Model, request: Request, engine: str) -> dict[str, Any]:
    messages = request.messages
    if model.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": model.system}, *messages]
    if not model.system_role:
        messages = fold_system(messages)
    extra: dict[str, Any] = {"messages": messages}
    if request.schema:
        schema, strict = strict_schema(request.schema)
        named = {"name": "answer", "schema": schema, "strict": strict}
        extra["response_format"] = {"type": "json_schema", "json_schema": named}
    if request.top_logprobs:
        extra |= {"logprobs": True, "top_logprobs": _alternatives(model, request, MOST_LOGPROBS.get(engine))}
    return extra


def strict_schema(schema: Any) -> tuple[Any, bool]:
    """Return (schema with every object closed, whether it may be called strict).

    Strict mode wants `additionalProperties: false` and every property required, at every level
    (https://platform.openai.com/docs/guides/structured-outputs); a schema with an optional property is only closed.
    """
    if isinstance(schema, list):
        pairs = [strict_schema(item) for item in schema]
        return [item for item, _ in pairs], all(strict for _, strict in pairs)
    if not isinstance(schema, dict):
        return schema, True
    pairs = {name: strict_schema(value) for name, value in schema.items()}
    closed, strict = {name: value for name, (value, _) in pairs.items()}, all(strict for _, strict in pairs.values())
    properties = closed.get("properties")
    if closed.get("type") == "object" and isinstance(properties, dict):
        closed.setdefault("additionalProperties", False)
        strict = (
            strict and closed["additionalProperties"] is False and set(properties) <= set(closed.get("required", ()))
        )
    return closed, strict


def fold_system(messages: list[Message]) -> list[Message]:
    """Put the system turn at the head of the first user turn."""
    if messages[0]["role"] != "system" or len(messages) < 2:
        return messages
    first = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]
