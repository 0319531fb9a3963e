"""Calls and cutting on one and on three Ray workers of this machine: what a cluster gains, and what it costs.

    make bench NAME=cluster      needs the extra `cluster`; about two minutes on quiet cores

The endpoint is a loopback stub that sleeps, so three workers on two cores gain what they would gain on three machines
as long as little is computed. Workers are warm: the time until the first batch is back is given apart.
"""

import socket
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from record import Result, publish
from stub import stub

from kyara_utils.llm import Client, Model, Request
from kyara_utils.llm.ledger import Ledger
from kyara_utils.llm.spread import SpreadClient

LATENCY, PARALLEL, CALLS, RUNS = 0.5, 8, 480, 3
STORE = 100 << 20  # bytes of a node's object store
PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")


def node() -> dict:
    """Options of a node of one CPU; Ray gives up on a node that waits 15 s for its ports, so most are named here."""
    with ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        ports = {name: server.getsockname()[1] for name, server in zip(PORTS, free, strict=True)}
    return {"num_cpus": 1, "object_store_memory": STORE} | ports


@contextmanager
def cluster(nodes: int):
    """A cluster of so many nodes of one CPU, all of them on this machine."""
    import ray
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args=node() | {"include_dashboard": False})
    for _ in range(nodes - 1):
        found.add_node(**node())
    found.wait_for_nodes(300)
    ray.init(address=found.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def seconds(kind: type, url: str, folder: Path, calls: int) -> float:
    """Ask so many new questions into a new ledger."""
    name = str(time.monotonic_ns())
    requests = [Request([{"role": "user", "content": f"{name} 第{number}題"}]) for number in range(calls)]
    with kind(Model("stub", url, model="m", parallel=PARALLEL), Ledger(folder / name / "calls.sqlite")) as client:
        begun = time.perf_counter()
        answers = client.ask(requests, progress=False)
        took = time.perf_counter() - begun
    assert all(answer.text for answer in answers)
    return took


def main() -> None:
    """One client without Ray, then one and three workers."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, stub(latency=LATENCY) as (url, _):
        found["local"] = [seconds(Client, url, Path(name), CALLS) for _ in range(RUNS)]
        for nodes in (1, 3):
            with cluster(nodes):
                found[f"first {nodes}"] = [seconds(SpreadClient, url, Path(name), nodes)]
                found[str(nodes)] = [seconds(SpreadClient, url, Path(name), CALLS) for _ in range(RUNS)]
            print({key: [round(value, 2) for value in values] for key, values in found.items()}, flush=True)
    shares = [one / 3 / three for one, three in zip(found["1"], found["3"], strict=True)]
    what = f"{CALLS} calls, stub of {1000 * LATENCY:.0f} ms, {PARALLEL} at once"
    publish("cluster", [
        Result(f"{what}, one worker", "s", found["1"], None, False, "one client, no cluster", found["local"]),
        Result(f"{what}, three workers", "s", found["3"], None, False),
        Result("efficiency from one to three workers", "share", shares, 0.9, True),
        Result("until the first answers of three cold workers", "s", found["first 3"], None, False),
    ], ("ray",))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
