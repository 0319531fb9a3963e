"""A client whose calls are asked by the workers of a Ray cluster, each batch of them into a ledger of its own.

The workers only fill ledgers: what they were answered is taken into the run's, from which the rows are then read as in
any replay, so ids, order and bytes cannot depend on who asked. A batch's ledger (its shard) lies beside the run's, on a
disk that all nodes see. Who takes over the batch of a lost worker finds there what is paid already, and what a lost
driver left is taken in by the next run.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kyara_utils.llm.client import REASKS, Client
from kyara_utils.llm.endpoints import Model
from kyara_utils.llm.formats import Check
from kyara_utils.llm.ledger import Call, Ledger
from kyara_utils.llm.protocol import Request, Response
from kyara_utils.runs.engine import map_batches, ray_workers
from kyara_utils.runs.errors import KyaraError

WAVES, CAREFUL = 32, 4  # times `parallel` requests in a batch at most, without and with a budget to keep
log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Requests for one worker, and the file of their answers; `check` and `reasks` as in `Client.ask`."""

    shard: Path
    requests: Sequence[Request]
    check: Check | None
    reasks: int


class Asking:
    """What a worker does: it asks batches into their shards, by one connection or embedded server for all of them."""

    def __init__(self, model: Model, model_file: Callable[[], Path] | None, identity: str):
        self.model, self.model_file, self.identity = model, model_file, identity
        self.gpu = model.embedded and not (model.package or model.gguf)  # llama.cpp runs on the CPU here
        self._client: Client | None = None

    def __call__(self, batch: Batch) -> None:
        shard = Ledger(batch.shard, alone=True)
        try:
            client = self._client = self._client or Client(self.model, shard, self.model_file)
            client.ledger, client.identity = shard, self.identity
            client.ask(batch.requests, "", False, batch.check, batch.reasks)
        finally:
            shard.close()

    def close(self) -> None:
        """Stop the embedded server, if there is one."""
        if self._client:
            self._client.close()


class SpreadClient(Client):
    """The client of `engine: ray`; only calls that the ledger lacks need a cluster.

    Every worker keeps `parallel` requests under way; they share `rpm` and `tpm`. The budget is checked before a batch
    is handed out, calls under way reckoned at the average so far.
    """

    _lost: dict[str, str] = {}

    def ask(
        self, requests: Iterable[Request], label: str = "", progress: bool = True, check: Check | None = None,
        reasks: int = REASKS,
    ) -> list[Response]:  # fmt: skip
        """Answer all requests as `Client.ask` does."""
        requests, before = list(requests), dict(self.usage)
        if not self.model.batch and self._missing(requests):
            self._take_in()
            if missing := self._missing(requests):
                self._spread(missing, check, reasks)
        # what is new is about to be read, and counted, as stored
        self.usage["stored"] -= self.usage["calls"] - before["calls"]
        self.spent -= self.usage["cost"] - before["cost"]
        return super().ask(requests, label, progress, check, reasks)

    def _missing(self, requests: Iterable[Request]) -> dict[str, Request]:
        calls = ((self.call(request).key, request) for request in requests)
        return {key: request for key, request in calls if self.ledger.get(key) is None}

    def _spread(self, missing: dict[str, Request], check: Check | None, reasks: int) -> None:
        workers, handed, over = ray_workers(), deque(), []
        work = Asking(_share(self.model, workers), self._model_file, self.identity)
        self._lost = {}

        def batches() -> Iterator[Batch]:
            for batch in self._cut(missing, workers, check, reasks):
                try:
                    self._check_budget(sum(len(other.requests) for other in (*handed, batch)))
                except KyaraError as error:
                    over.append(error)
                    return
                handed.append(batch)
                yield batch

        try:
            for done, _ in enumerate(map_batches(work, batches(), "ray"), 1):
                self._account(*self._take(handed.popleft().shard))
                log.info("%s: %d batches done by %d workers", self.model.name, done, workers)
        finally:
            self._take_in()
        if over:
            raise over[0]

    def _cut(self, missing: dict[str, Request], workers: int, check: Check | None, reasks: int) -> Iterator[Batch]:
        most = self.model.parallel * (CAREFUL if self.budget else WAVES)
        size, items = min(-(-len(missing) // workers), most), iter(missing.items())
        while some := dict(islice(items, size)):
            name = blake2b("".join(some).encode(), digest_size=8).hexdigest()
            yield Batch(self._shards / f"{name}.sqlite", tuple(some.values()), check, reasks)

    @property
    def _shards(self) -> Path:
        return self.ledger.path.with_suffix("").absolute()  # runs/RECIPE/calls beside calls.sqlite

    def _take_in(self) -> None:
        """Take in what workers have left, of this run or one before."""
        for path in sorted(self._shards.glob("*.sqlite")):
            try:
                self._take(path)
            except KyaraError as error:  # of a worker that is still ending
                log.warning("%s; the next run takes it in", error)

    def _take(self, path: Path) -> tuple[list[Call], list[tuple]]:
        """Move a shard's calls and failures into the run's ledger, and return them."""
        shard = Ledger(path, alone=True)
        try:
            calls, failures = list(shard.calls()), shard.failures()
            self.ledger.add(calls)
            self.ledger.add_failures(failures)
        finally:
            shard.close()
        path.unlink()
        return calls, failures

    def _account(self, calls: list[Call], failures: list[tuple]) -> None:
        """Count what a shard's workers were answered, the lost ones too, and keep why the others failed for good."""
        for call in calls:
            self._count(
                {"usage": {"prompt_tokens": call.prompt_tokens, "completion_tokens": call.completion_tokens}}, True
            )
        self.usage["calls"] += len(calls)
        self.usage["attempts"] += sum(call.attempts for call in calls) + sum(row[4] for row in failures)
        self._lost |= {row[0]: row[3] for row in failures}

    async def _call(self, key: str, path: str, body: bytes, completion_tokens: int) -> Response:
        if key not in self._lost:
            return await super()._call(key, path, body, completion_tokens)
        self.usage["failed"] += 1
        return Response(key, error=self._lost[key])


def _share(model: Model, workers: int) -> Model:
    """A worker's model: its part of the provider's limits, and a free port, since a node may hold several workers."""
    return replace(model, rpm=model.rpm / workers, tpm=model.tpm / workers, port=0)
