"""One chat client for every provider: many requests at once, each durable, counted, priced and shown.

The loop lives in its own thread, because a notebook already runs one.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kyara_utils.llm import batch
from kyara_utils.llm.embedded import EmbeddedServer
from kyara_utils.llm.endpoints import Model
from kyara_utils.llm.formats import Check, checked, retry_request
from kyara_utils.llm.ledger import Ledger, call_key, call_of, tokens_of
from kyara_utils.llm.progress import Progress
from kyara_utils.llm.protocol import Request, Response, render, stopped
from kyara_utils.llm.reading import Unreadable, read_response
from kyara_utils.llm.transport import Transport
from kyara_utils.models.serving import FolderServer
from kyara_utils.runs.errors import KyaraError

log = logging.getLogger(__name__)
REASKS = 1
COUNTS = ("calls", "stored", "failed", "reasked", "attempts", "prompt_tokens", "completion_tokens")
BYTES_PER_TOKEN = 3  # of a request body, to guess a call's tokens before it is made


class Client:
    """Talks to one model. Use as a context manager; what it needs (server, key, model file) it takes at the first call
    that the ledger does not hold, so a shipped ledger replays a notebook without any of them.

    model_file: makes the GGUF of an embedded model; identity: what answers, for the key of a call.
    budget: USD that the calls of this client may have cost, stored ones included; 0 is no limit.
    """

    def __init__(
        self, model: Model, ledger: Ledger, model_file: Callable[[], Path] | None = None, identity: str = "",
        budget: float = 0.0,
    ):  # fmt: skip
        self.model, self.ledger, self.budget = model, ledger, budget
        self.identity = f"{identity or model.model or model.name} {model.revision}".rstrip()
        self.usage: dict[str, Any] = dict.fromkeys(COUNTS, 0) | {"seconds": 0.0, "cost": 0.0}
        self.spent = 0.0
        self._model_file, self._server, self._transport = model_file, None, None
        self._stop: KyaraError | None = None
        self._interrupted = self._said = False
        self._waiting: list[batch.Line] = []
        self._collected: set[tuple[str, int]] = set()
        self._under_way: dict[str, asyncio.Future] = {}
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the loop and an embedded server, close the ledger."""
        if self._transport:
            asyncio.run_coroutine_threadsafe(self._transport.close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._loop.is_running():
            self._loop.close()
        self.ledger.close()
        if self._server:
            self._server.close()

    def ask(
        self, requests: Iterable[Request], label: str = "", progress: bool = True, check: Check | None = None,
        reasks: int = REASKS,
    ) -> list[Response]:  # fmt: skip
        """Answer all requests, in their order; stored answers cost nothing, a failed one carries its `error`.

        check(text) returns what is wrong with an answer's format, or ""; such an answer is asked again with that
        message, at most `reasks` times. A request with a schema is checked against it. Raises `KyaraError` when
        going on is pointless (key, server, disk, budget); everything answered by then is in the ledger.
        """
        started = time.time()
        try:
            return self._wait(self._ask(requests, label, progress, check, reasks))
        finally:
            self.usage["seconds"] = round(self.usage["seconds"] + time.time() - started, 2)

    def _wait(self, work: Coroutine) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            self._interrupted = True
            log.warning("stopping: calls under way are still stored; interrupt again to drop them")
            try:
                future.result()
            except BaseException:
                future.cancel()
            self._interrupted = False
            raise

    async def _ask(
        self, requests: Iterable[Request], label: str, progress: bool, check: Check | None, reasks: int
    ) -> list[Response]:
        batch.collect(self.ledger, self.model, self._collected)
        total = len(requests) if hasattr(requests, "__len__") else None
        source, answers, self._stop = enumerate(requests), {}, None
        with Progress(label or self.model.name, total, self.usage, bool(self.model.price_out), shown=progress) as line:
            workers = min(self.model.parallel, total) if total is not None else self.model.parallel
            work = [self._work(source, answers, line, check, reasks) for _ in range(workers)]
            await asyncio.gather(*work)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._stop = self._stop or batch.handed_out(self.ledger, self.model, waiting)
        if self._stop:
            raise self._stop
        return [answers[position] for position in range(len(answers))]

    async def _work(
        self, source: Iterator[tuple[int, Request]], answers: dict[int, Response], line: Progress,
        check: Check | None, reasks: int,
    ) -> None:  # fmt: skip
        """Take requests from the common source until it is empty or the work has to stop; lose nothing under way."""
        for position, request in source:
            try:
                answers[position] = await self._checked(request, check, reasks)
                self.ledger.use(answers[position].call_ids, line.label)
            except KyaraError as error:
                self._stop = self._stop or error
            line.advance(answers.get(position))
            if self._stop or self._interrupted:
                return

    async def _checked(self, request: Request, check: Check | None, reasks: int) -> Response:
        response = stopped(self.model, request, await self._answer(request))
        if check is None and request.schema is None:
            return response
        for attempt in range(reasks + 1):
            if response.error:
                return response
            response.text, problem = checked(response.text, request.schema, check, whole=not response.truncated)
            if not problem:
                return response
            if attempt == reasks or response.truncated:
                break
            self.usage["reasked"] += 1
            request = retry_request(request, response.text, problem, self.model.dialect == "completion")
            response = replace(stopped(self.model, request, await self._answer(request)), earlier=(*response.call_ids,))
        self.usage["failed"] += 1
        return replace(response, error=f"format: {problem}")

    def call(self, request: Request) -> batch.Line:
        """What a request is sent as, and its key in the ledger."""
        path, body = render(self.model, request)
        return batch.Line(call_key(self.identity, path, body, request.sample, request.seed), path, body)

    async def _answer(self, request: Request) -> Response:
        key, path, body = self.call(request)
        if (raw := self.ledger.get(key)) is not None and (stored := self._stored(key, raw)):
            return stored
        if self.model.batch:
            self._waiting.append(batch.Line(key, path, body))
            return Response(key, error="waits for its batch")
        if key not in self._under_way:  # two equal rows of one stage are one call
            self._check_budget()
            call = asyncio.ensure_future(self._call(key, path, body, request.max_tokens * request.n))
            call.add_done_callback(lambda _: self._under_way.pop(key))
            self._under_way[key] = call
        return await self._under_way[key]

    def _stored(self, key: str, raw: dict[str, Any]) -> Response | None:
        try:
            response = read_response(key, raw)
        except Unreadable as error:  # of an earlier version, or imported
            self.ledger.disown(key, str(error))
            return None
        self.usage["stored"] += 1
        self.usage["failed"] += bool(response.error)
        self._count(raw, new=False)
        return response

    async def _call(self, key: str, path: str, body: bytes, completion_tokens: int) -> Response:
        reply = await self.transport().post(path, body, len(body) // BYTES_PER_TOKEN + completion_tokens)
        self.usage["attempts"] += reply.attempts
        self._count(reply.parsed, new=True)
        if reply.answer is None:
            self.usage["failed"] += 1
            self.ledger.fail(key, self.model.name, body, reply.error, reply.attempts, reply.raw)
            return Response(key, error=reply.error)
        await self.ledger.put(call_of(key, self.model.name, body, reply))
        self.usage["calls"] += 1
        self.usage["failed"] += bool(reply.answer.error)
        if reply.answer.reasoning and not (reply.answer.text or self._said):
            self._said = True
            log.warning("%s thinks until its tokens are used up; raise its reasoning_tokens", self.model.name)
        reply.answer.call_id = key
        return reply.answer

    def _count(self, raw: dict[str, Any], new: bool) -> None:
        prompt, completion = tokens_of(raw)
        cost = self.model.cost(prompt, completion)
        self.spent += cost
        if new:
            self.usage["prompt_tokens"] += prompt
            self.usage["completion_tokens"] += completion
            self.usage["cost"] = round(self.usage["cost"] + cost, 8)

    def _check_budget(self, calls: int = 1) -> None:
        """Stop before the calls that would pass the budget; they and those under way count as the average so far."""
        done = self.usage["calls"] + self.usage["stored"]
        coming = (len(self._under_way) + calls) * self.spent / done if done else 0.0
        if self.budget and self.spent + coming > self.budget:
            raise KyaraError(
                f"the budget of ${self.budget:g} for {self.model.name} is used up (${self.spent:.4g}); "
                "raise it and rerun: what is answered is stored and costs nothing again"
            )

    def transport(self) -> Transport:
        """The connection, made at the first call that has to be asked; starts an embedded server."""
        if self._transport is None:
            model = self.model
            if model.embedded:
                path = self._model_file() if self._model_file else Path(model.gguf or model.folder)
                serve = FolderServer if path.is_dir() else EmbeddedServer
                self._server = serve(path, parallel=model.parallel, context=model.context, port=model.port)
            urls = [self._server.base_url] if self._server else model.urls
            if not urls:
                raise KyaraError(f"{model.name} has no address; give it a base_url in params/models.yaml")
            self._transport = Transport(model, urls)
        return self._transport


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where there is one: twice the requests per second; Windows has none."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def add_usage(*usages: dict[str, Any]) -> dict[str, Any]:
    """Sum the usage of several clients."""
    names = dict.fromkeys(name for usage in usages for name in usage)
    return {name: round(sum(usage.get(name, 0) for usage in usages), 8) for name in names}
