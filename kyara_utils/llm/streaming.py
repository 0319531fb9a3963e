"""An answer while it is being written: server-sent events of OpenAI's protocol, for people who read along.

The chain asks through `client`, which stores every call before it is used. Here nothing is stored and nothing is asked
twice: a conversation is looked at and gone.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

from kyara_utils.llm.endpoints import Model
from kyara_utils.llm.protocol import Request, Response, render, stopped
from kyara_utils.llm.reading import Unreadable, read_response
from kyara_utils.llm.reasoning import split_reasoning
from kyara_utils.llm.transport import key_header, proxy_of
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.unredirected import Unredirected

DATA, DONE = b"data:", b"[DONE]"
LENGTH = ("context", "token count", "input length", "model length", "too long", "too large")  # words of a refusal


class TooLong(KyaraError):
    """Prompt and answer together do not fit into the model's context."""


def stream(model: Model, url: str, request: Request) -> Iterator[Response]:
    """Yield the answer again and again as it grows, its reasoning apart; the last one has a `finish_reason`.

    url: the server's, ending in /v1. A server that does not stream gives its whole answer at once. Raises `TooLong`,
    and `KyaraError` for any other refusal, a silent address or a connection that broke, if only by its silence.
    """
    with opened(model, url, request, {"stream": True}) as answer:
        if "event-stream" not in answer.headers.get("Content-Type", ""):
            yield _read(model, content(model, answer))
            return
        yield from _grown(model, answer)


def asked(model: Model, url: str, request: Request) -> Response:
    """The whole answer, with log-probabilities where they were asked for; errors as in `stream`."""
    with opened(model, url, request) as answer:
        return stopped(model, request, _read(model, content(model, answer)))


def opened(model: Model, url: str, request: Request, more: dict[str, Any] | None = None) -> Any:
    """The server's open reply to a request whose body has the fields `more` as well; a refusal is a `KyaraError`."""
    path, body = render(model, request)
    return fetch(model, url + path, json.dumps(json.loads(body) | (more or {})).encode())


def fetch(model: Model, address: str, body: bytes | None = None) -> Any:
    """GET, or POST a body; the open reply, whose errors are one line."""
    headers = {"Content-Type": "application/json", **key_header(model)}
    proxy = proxy_of(address)
    proxies = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {})
    opener = urllib.request.build_opener(proxies, Unredirected)
    try:
        return opener.open(urllib.request.Request(address, body, headers), timeout=model.timeout)
    except urllib.error.HTTPError as error:
        said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:300]
        if error.code in (400, 413, 422) and any(word in said.lower() for word in LENGTH):
            raise TooLong(f"{model.name}: {said}; shorten the question, or start anew") from error
        raise KyaraError(f"{model.name}: HTTP {error.code}: {said}; see docs/add-a-provider.md") from error
    except (OSError, ValueError, HTTPException) as error:
        why = getattr(error, "reason", error)
        raise KyaraError(f"nobody answers at {address} ({why}); start the server or correct the address") from error


def content(model: Model, reply: Any) -> bytes:
    """All that an open reply holds; a connection that broke is a `KyaraError`."""
    try:
        return reply.read()
    except (OSError, HTTPException) as error:
        raise KyaraError(f"{model.name} broke off: {str(error)[:200]}; ask again") from error


def _read(model: Model, body: bytes) -> Response:
    try:
        return read_response("", json.loads(body))
    except ValueError as error:  # Unreadable is one
        raise KyaraError(f"{model.name} sent no answer: {str(error)[:200]}; is this address an API's?") from error


def _grown(model: Model, lines: Any) -> Iterator[Response]:
    text, reason = "", ""
    try:
        for line in lines:
            if not line.startswith(DATA):
                continue
            if line[len(DATA) :].strip() == DONE:
                reason = reason or "stop"
                continue
            more, reason = _piece(json.loads(line[len(DATA) :]), reason)
            text += more
            if more:
                yield _response(text, "")
        if not reason:  # who closes the connection behind half an answer sends no error
            raise Unreadable("it ends without a reason")
    except (OSError, ValueError, HTTPException) as error:
        raise KyaraError(f"{model.name} broke off: {str(error)[:200]}; ask again") from error
    yield _response(text, reason)


def _piece(event: dict[str, Any], reason: str) -> tuple[str, str]:
    """(new text, finish reason) of one event; what a model thinks aloud in a field of its own is left out."""
    if event.get("error"):
        raise Unreadable(str(event["error"])[:200])
    for choice in (event.get("choices") or ())[:1]:
        content = choice["text"] if "text" in choice else (choice.get("delta") or {}).get("content")
        return content or "", choice.get("finish_reason") or reason
    return "", reason


def _response(text: str, reason: str) -> Response:
    shown, thoughts, unclosed = split_reasoning(text)
    return Response("", shown, "length" if reason and unclosed else reason, reasoning=thoughts)
