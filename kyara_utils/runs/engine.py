"""Where a step's work is done: in this process, in several on this machine, or on the workers of a Ray cluster.

A function takes one batch and returns its result; results come in the order of the batches, so that what a step writes
does not depend on who did the work. Ray's tasks rather than Ray Data: a lost worker's or node's batch is done again by
whichever is left, and nothing but Ray itself (msgpack beside it) is installed.
"""

import multiprocessing
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from hashlib import blake2b
from itertools import chain, islice
from typing import Any, TypeVar

from kyara_utils.runs.errors import KyaraError

Batch, Result = TypeVar("Batch"), TypeVar("Result")
LOCAL = re.compile(r"local(?::([1-9]\d*))?")
AHEAD = 2  # batches under way for each worker: one at work and one that waits
RETRIES = 3  # of a batch whose worker or node is lost, before the batch itself is taken for the cause
_function: tuple[str, Any] = ("", None)  # of a worker: name of the function that it last worked for, and the function

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody unless a user asks for it
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of batches that come after one that has failed


def map_batches(
    function: Callable[[Batch], Result], batches: Iterable[Batch], engine: str = "local"
) -> Iterator[Result]:
    """Yield function(batch) for each batch, in order; at most `AHEAD` batches a worker are under way.

    engine: `local` (this process, one after the other), `local:8` (processes) or `ray` (the cluster as large as it is).
    function: what can be pickled; it is sent to a worker once and may keep what it has loaded from one batch to the
    next. On a cluster one whose attribute `gpu` is true gets a GPU for itself where there are any, else one whose
    attribute `node` is true a whole node: of what it loads there is one on each.
    Raises what the function raises, and `KyaraError` for a batch that costs every worker its life.
    """
    workers = processes(engine)
    if not workers:
        return _on_ray(function, batches)
    return map(function, batches) if workers == 1 else _in_processes(function, batches, workers)


def processes(engine: str) -> int:
    """Return how many processes of this machine work, 0 for a Ray cluster."""
    if engine == "ray":
        return 0
    if not (found := LOCAL.fullmatch(engine)):
        raise KyaraError(f"engine {engine!r} is none of local, local:8 (processes), ray; set one of them")
    return int(found[1] or 1)


def _in_processes(function: Callable[[Batch], Result], batches: Iterable[Batch], workers: int) -> Iterator[Result]:
    spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of this process hold
    with ProcessPoolExecutor(workers, spawn, _keep, ("", function)) as pool:
        waiting: deque = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(_work, batch))
                if len(waiting) == AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise KyaraError("a worker process died, perhaps of too little memory; rerun with fewer workers") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _keep(name: str, function: Callable) -> None:
    global _function
    if hasattr(_function[1], "close"):
        _function[1].close()
    _function = (name, function)


def _work(batch: Any) -> Any:
    return _function[1](batch)


def _on_ray(function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
    batches = iter(batches)
    if not (first := list(islice(batches, 1))):
        return  # a step whose work is all stored needs no cluster
    ray = connected()
    kind = worker_kind(function)
    pickled = ray.cloudpickle.dumps(function)
    task = (blake2b(pickled, digest_size=16).hexdigest(), [ray.put(pickled)])  # in a list, Ray does not fetch it
    paths = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}  # the code beside the notebook
    run = ray.remote(max_retries=RETRIES, scheduling_strategy="SPREAD", runtime_env=paths, **taken_by(kind))(
        _work_on_ray
    )
    waiting: deque = deque()
    try:
        for batch in chain(first, batches):
            waiting.append(run.remote(*task, batch))
            while len(waiting) >= AHEAD * ray_workers(kind):  # which a lost node makes fewer
                yield _got(ray, waiting.popleft())
        while waiting:
            yield _got(ray, waiting.popleft())
    finally:
        for late in waiting:
            ray.cancel(late)


def _work_on_ray(name: str, pickled: list, batch: Any) -> Any:
    """Runs in a worker, which keeps the function for the batches that follow."""
    if _function[0] != name:
        import ray

        _keep(name, ray.cloudpickle.loads(ray.get(pickled[0])))
    return _work(batch)


def _got(ray: Any, result: Any) -> Any:
    try:
        return ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[0]
        times = f"a batch lost its worker {RETRIES + 1} times ({why[:200]})"
        raise KyaraError(f"{times}; give the workers more memory, or take smaller models") from error


def connected() -> Any:
    """Ray, connected to the cluster that RAY_ADDRESS names or that runs on this machine, else to one started here."""
    try:
        import ray
    except ImportError as error:
        raise KyaraError("engine ray needs a package; pip install -e '.[cluster]'") from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="WARNING")
    return ray


def worker_kind(function: Callable) -> str:
    """What a worker of a function takes of the cluster: a `GPU`, a whole `node` or a `CPU`."""
    if getattr(function, "gpu", False) and connected().cluster_resources().get("GPU"):
        return "GPU"
    return "node" if getattr(function, "node", False) else "CPU"


def taken_by(kind: str) -> dict[str, int]:
    """What Ray is to give a worker of a kind.

    It can be asked for CPUs but not for a node, so a worker for a whole one takes as many as the smallest node has, and
    one that has twice as many holds two.
    """
    if kind == "GPU":
        return {"num_gpus": 1, "max_calls": 0}  # else Ray ends a GPU's worker after each task
    return {"num_cpus": min(_cpus(), default=1)} if kind == "node" else {}


def ray_workers(kind: str = "CPU") -> int:
    """How many workers of a kind the cluster has room for as it is now."""
    if kind == "node":
        each = taken_by(kind)["num_cpus"]
        return max(1, sum(cpus // each for cpus in _cpus()))
    return max(1, int(connected().cluster_resources().get(kind, 1)))


def _cpus() -> list[int]:
    """CPUs of each node that has any."""
    found = (int(node["Resources"].get("CPU", 0)) for node in connected().nodes() if node["Alive"])
    return [cpus for cpus in found if cpus]
