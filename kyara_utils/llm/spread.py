"""A client whose calls are asked by the workers of a Ray cluster, each batch of them into a ledger of its own.

The workers only fill ledgers: what they were answered is taken into the run's, from which the rows are then read as in
any replay, so ids, order and bytes cannot depend on who asked. A batch's ledger (its shard) lies beside the run's, on a
disk that all nodes see. Who takes over the batch of a lost worker finds there what is paid already, and what a lost
driver left is taken in by the next run.

A budget holds as it does for one client. Batches are asked together only while it pays for all of them, each answer
reckoned as long as it may be; what is left then goes to one worker after the other, which stops by the rule, at the sum
and with the words of `Client`. So no more is spent than one worker may have under way when the first price is known.
"""

import logging
import time
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
from kyara_utils.runs.calls import parsed
from kyara_utils.runs.engine import map_batches, ray_workers, worker_kind
from kyara_utils.runs.errors import KyaraError

WAVES, CAREFUL = 32, 4  # times `parallel` requests in a batch at most, without and with a budget to keep
TAKEN = ".taken"  # ending of a shard that is being moved into the run's ledger, in which nobody writes any more
log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Requests for one worker, and the file of their answers; `check` and `reasks` as in `Client.ask`.

    account: (budget, USD spent, calls that it was spent on) of a worker that has the budget to itself.
    """

    shard: Path
    requests: Sequence[Request]
    check: Check | None
    reasks: int
    account: tuple[float, float, int] = (0.0, 0.0, 0)


class Asking:
    """What a worker does: it asks batches into their shards, by one connection or embedded server for all of them.

    An embedded model takes a GPU for itself or, by llama.cpp, which runs on the CPU here, a whole node.
    """

    def __init__(self, model: Model, model_file: Callable[[], Path] | None, identity: str):
        self.model, self.model_file, self.identity = model, model_file, identity
        self.gpu, self.node = model.embedded and not (model.package or model.gguf), model.embedded
        self._client: Client | None = None

    def __call__(self, batch: Batch) -> None:
        shard = Ledger(batch.shard, alone=True)
        try:
            client = self._client = self._client or Client(self.model, shard, self.model_file)
            client.ledger, client.identity = shard, self.identity
            client.budget, client.spent, calls = batch.account
            client.usage |= {"calls": calls, "stored": 0}
            client.ask(batch.requests, "", False, batch.check, batch.reasks)
        finally:
            shard.close()

    def close(self) -> None:
        """Stop the embedded server, if there is one."""
        if self._client:
            self._client.close()


class SpreadClient(Client):
    """The client of `engine: ray`; only calls that the ledger lacks need a cluster.

    Every worker keeps `parallel` requests under way; they share `rpm` and `tpm`.
    """

    _lost: dict[str, str] = {}

    def ask(
        self, requests: Iterable[Request], label: str = "", progress: bool = True, check: Check | None = None,
        reasks: int = REASKS,
    ) -> list[Response]:  # fmt: skip
        """Answer all requests as `Client.ask` does."""
        requests, before, spent = list(requests), dict(self.usage), self.spent
        self._take_in()
        if not self.model.batch and (missing := self._missing(requests)):
            if self.budget:  # to which what is stored counts, before anything is asked
                stored = [request for request in requests if self.call(request).key not in missing]
                super().ask(stored, label, False, check, reasks)
            self._spread(missing, check, reasks)
        # all of it is about to be read, and counted, as stored
        new = self.usage["calls"] - before["calls"]
        self.usage |= {name: before[name] for name in ("failed", "reasked")} | {"stored": before["stored"] - new}
        self.spent = spent
        return super().ask(requests, label, progress, check, reasks)

    def _missing(self, requests: Iterable[Request]) -> dict[str, Request]:
        calls = ((self.call(request).key, request) for request in requests)
        return {key: request for key, request in calls if self.ledger.get(key) is None}

    def _spread(self, missing: dict[str, Request], check: Check | None, reasks: int) -> None:
        work = Asking(self.model, self._model_file, self.identity)
        workers = ray_workers(worker_kind(work))
        work.model, self._lost, done = _share(self.model, workers), {}, 0
        try:
            for batches in self._rounds(deque(self._cut(missing, workers, check, reasks))):
                for _, batch in zip(map_batches(work, batches, "ray"), batches, strict=True):
                    self._account(*self._take(batch.shard))
                    done += 1
                    log.info("%s: %d batches done by %d workers", self.model.name, done, workers)
        finally:
            self._take_in()

    def _rounds(self, batches: deque[Batch]) -> Iterator[list[Batch]]:
        """Batches that may be asked together: all that the money left pays for, else one that watches it itself."""
        while batches:
            left, some = self.budget - self.spent, []
            while batches and (not self.budget or (left := left - self._most(batches[0])) >= 0):
                some.append(batches.popleft())
            if not some:
                self._check_budget()
                account = (self.budget, self.spent, self.usage["calls"] + self.usage["stored"])
                some.append(batches.popleft()._replace(account=account))
            yield some

    def _most(self, batch: Batch) -> float:
        """USD that a batch may cost: a token for each byte that is sent, answers of full length, all formats wrong."""
        cost = 0.0
        for request in batch.requests:
            times = 1 + (batch.reasks if batch.check or request.schema else 0)
            answer = (request.max_tokens + self.model.reasoning_tokens) * request.n
            cost += self.model.cost(times * (len(self.call(request).body) + (times - 1) * answer), times * answer)
        return cost

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
        """Take in what workers have left, of this run or one before; first what a run was killed over."""
        for path in (*sorted(self._shards.glob(f"*{TAKEN}")), *sorted(self._shards.glob("*.sqlite"))):
            try:
                self._take(path)
            except KyaraError as error:  # of a worker that is still ending
                log.warning("%s; the next run takes it in", error)

    def _take(self, path: Path) -> tuple[list[Call], list[tuple]]:
        """Move a shard's calls and failures into the run's ledger, and return them.

        First the file gets a name of its own, under which nobody looks for it, last it goes. Killed between, its calls
        are taken in again, which changes nothing; killed before, the shard is as its worker left it.
        """
        if not path.exists():
            runs = self._shards.parent
            raise KyaraError(f"a worker's answers are not in {runs}; put that folder on a disk that all nodes see")
        shard = Ledger(path, alone=True)
        try:
            if path.suffix != TAKEN:
                shard.move(path.with_suffix(f".{time.time_ns()}{TAKEN}"))
            calls, failures = list(shard.calls()), shard.failures()
            self.ledger.add(calls)
            self.ledger.add_failures(failures)
        finally:
            shard.close()
        shard.path.unlink()
        return calls, failures

    def _account(self, calls: list[Call], failures: list[tuple]) -> None:
        """Count what a shard's workers were answered, the lost ones too, and keep why the others failed for good."""
        for call in calls:
            self._count(
                {"usage": {"prompt_tokens": call.prompt_tokens, "completion_tokens": call.completion_tokens}}, True
            )
        for row in failures:
            self._count(parsed(row[-1]), True)
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
