"""One chat client for every provider: OpenAI's HTTP protocol, asynchronous, stored, with progress.

aiohttp rather than the providers' SDKs: a tenth of the CPU per request, and the raw body is what the store keeps.
The loop lives in its own thread, because a notebook already runs one.
"""

import asyncio
import os
import random
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kyara_utils.llm.embedded import EmbeddedServer
from kyara_utils.llm.models import Model
from kyara_utils.llm.prompts import Message, plain_text
from kyara_utils.llm.store import Store, call_key
from kyara_utils.runs.errors import KyaraError

RETRY_STATUS = {408, 409, 429, 500, 502, 503, 504}
ATTEMPTS = 5


@dataclass(frozen=True)
class Request:
    """One question to a model. `top_logprobs` > 0 asks for that many log-probabilities per token.

    `raw` sends the messages as plain text even to a chat model: log-likelihood protocols want the bare text.
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


@dataclass
class Response:
    """One answer. `error` is empty unless the call failed for good; `logprobs`: {token: log-probability} per token."""

    call_id: str
    text: str = ""
    finish_reason: str = ""
    logprobs: list[dict[str, float]] = field(default_factory=list)
    error: str = ""

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut the answer."""
        return self.finish_reason == "length"


class Client:
    """Talks to one model. Use as a context manager; it starts and stops an embedded server where the model has one."""

    def __init__(self, model: Model, store: Store, gguf: Path | None = None, identity: str = ""):
        self.model, self.store = model, store
        self._server = None
        if model.embedded:
            path = Path(gguf or model.gguf)
            self._server = EmbeddedServer(path, parallel=model.parallel, context=model.context, port=model.port)
        self.base_url = self._server.base_url if self._server else model.base_url
        # A loopback port changes from run to run; what answers is the model file, so that is what keys the call.
        self.identity = identity or f"{model.base_url} {model.model}"
        self.usage = {"calls": 0, "stored": 0, "failed": 0, "prompt_tokens": 0, "completion_tokens": 0, "seconds": 0.0}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the loop and an embedded server, close the store."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._loop.is_running():
            self._loop.close()
        self.store.close()
        if self._server:
            self._server.close()

    def ask(self, requests: list[Request], label: str = "", progress: bool = True) -> list[Response]:
        """Answer all requests, in their order; stored answers cost nothing. A failed one carries its `error`."""
        started = time.time()
        try:
            return self._wait(self._ask(requests, label, progress))
        finally:
            self.usage["seconds"] += round(time.time() - started, 2)

    def _wait(self, work: Coroutine) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseExceptionGroup as group:  # a full disk or a missing key stops all calls with the same message
            raise group.exceptions[0] from None
        except BaseException:
            future.cancel()
            raise

    async def _ask(self, requests: list[Request], label: str, progress: bool) -> list[Response]:
        import aiohttp

        gate = asyncio.Semaphore(self.model.parallel)
        limits = aiohttp.ClientTimeout(total=600, connect=30)
        bar = tqdm(total=len(requests), desc=label or self.model.name, mininterval=5, disable=not progress, ascii=True)
        async with aiohttp.ClientSession(timeout=limits, headers=self._headers()) as session:

            async def one(request: Request) -> Response:
                async with gate:
                    response = await self._answer(session, request)
                bar.update()
                return response

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(request)) for request in requests]
        bar.close()
        return [task.result() for task in tasks]

    def _headers(self) -> dict[str, str]:
        if not self.model.key_env:
            return {}
        if not os.environ.get(self.model.key_env):
            raise KyaraError(f"{self.model.name} needs a key; export {self.model.key_env}=… and start again")
        return {"Authorization": f"Bearer {os.environ[self.model.key_env]}"}

    async def _answer(self, session: Any, request: Request) -> Response:
        path, body = self.body(request)
        key = call_key(self.identity, path, body, request.sample)
        if (raw := self.store.get(key)) is not None:
            self.usage["stored"] += 1
            return read_response(key, raw)
        begun = time.time()
        raw, error = await self._post(session, path, body)
        if error:
            self.usage["failed"] += 1
            return Response(key, error=error)
        self.store.put(key, self.model.name, body, raw, time.time() - begun)
        self._count(raw)
        return read_response(key, raw)

    def _count(self, raw: dict[str, Any]) -> None:
        usage = raw.get("usage") or {}
        self.usage["calls"] += 1
        for name in ("prompt_tokens", "completion_tokens"):
            self.usage[name] += usage.get(name, 0)

    def body(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the path and JSON body of a request in this model's dialect."""
        body: dict[str, Any] = {
            "model": self.model.model or self.model.name,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.repeat_penalty != 1.0:
            body["repeat_penalty" if self.model.embedded else "repetition_penalty"] = request.repeat_penalty
        if self.model.dialect == "plain" or request.raw:
            return "/completions", body | self._plain(request)
        return "/chat/completions", body | self._chat(request)

    def _plain(self, request: Request) -> dict[str, Any]:
        extra: dict[str, Any] = {"prompt": plain_text(request.messages)}
        if request.schema:
            extra["json_schema" if self.model.embedded else "guided_json"] = request.schema
        if request.top_logprobs:
            extra["logprobs"] = request.top_logprobs
        return extra

    def _chat(self, request: Request) -> dict[str, Any]:
        messages = request.messages
        if self.model.system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.model.system}, *messages]
        extra: dict[str, Any] = {"messages": messages}
        if request.schema:
            schema = {"name": "answer", "schema": request.schema, "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.top_logprobs:
            extra |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        return extra

    async def _post(self, session: Any, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        import aiohttp

        problem = ""
        for attempt in range(ATTEMPTS):
            wait = 0.5 * 2**attempt * (1 + random.random())
            try:
                async with session.post(self.base_url + path, json=body) as answer:
                    if answer.status == 200:
                        raw = await answer.json()
                        if raw.get("choices"):
                            return raw, ""
                        return {}, f"no choices in the answer: {str(raw)[:300]}"  # some gateways fail with a 200
                    problem = f"HTTP {answer.status}: {(await answer.text())[:300]}"
                    if answer.status not in RETRY_STATUS:
                        return {}, problem
                    wait = float(answer.headers.get("Retry-After") or wait)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
            if attempt < ATTEMPTS - 1:
                await asyncio.sleep(wait)
        return {}, f"{problem} (after {ATTEMPTS} attempts)"


def add_usage(*usages: dict[str, Any]) -> dict[str, Any]:
    """Sum the usage of several clients."""
    return {
        name: round(sum(usage.get(name, 0) for usage in usages), 2)
        for name in dict.fromkeys(k for u in usages for k in u)
    }


def read_response(key: str, raw: dict[str, Any]) -> Response:
    """Read a raw OpenAI body: chat or text completion, log-probabilities in either published layout."""
    choice = raw["choices"][0]
    text = choice["message"].get("content") or "" if "message" in choice else choice.get("text") or ""
    return Response(key, text, choice.get("finish_reason") or "", _logprobs(choice.get("logprobs")))


def _logprobs(found: dict[str, Any] | None) -> list[dict[str, float]]:
    if not found:
        return []
    if "content" in found:
        return [{top["token"]: top["logprob"] for top in token["top_logprobs"]} for token in found["content"]]
    return [dict(tops) for tops in found.get("top_logprobs") or []]
