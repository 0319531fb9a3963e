"""The call engine against a loopback stub: durable calls per second, CPU per call, faults, memory; datatrove beside it.

    make bench NAME=engine          about six minutes, of which one installs the peer

Every figure is the median of five processes. The peer runs in an environment of its own (datatrove's inference
runner with its checkpoints and request cache on, so that its answers are durable as ours are), alternating with ours.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import Result, publish
from stub import stub

HERE = Path(__file__).parent
RUNS = 5
PEER = ["datatrove==0.10.1", "aiofiles", "aiosqlite", "httpx", "openai", "orjson", "xxhash", "loguru", "tokenizers"]


def ours(folder: Path, url: str, *options: object) -> dict:
    """Run one process of the client; its facts."""
    command = [sys.executable, HERE / "asking.py", url, folder / f"{time.monotonic_ns()}.sqlite", *options]
    return json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)


def peer(python: Path, folder: Path, url: str, rows: int, parallel: int) -> dict:
    """Run the same questions through datatrove; its facts."""
    command = [python, HERE / "asking_datatrove.py", url, folder / f"peer-{time.monotonic_ns()}", rows, parallel]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the peer failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def environment(folder: Path) -> Path:
    """An environment for the peer, thrown away at the end."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *PEER], check=True)
    return python


def throughput(folder: Path, python: Path) -> list[Result]:
    """Durable calls per second without latency, and the share of the ceiling with 100 ms of it."""
    found: dict[str, list[float]] = {name: [] for name in ("rate", "cpu", "share", "peer", "peer_cpu", "peer_share")}
    for run in range(RUNS):
        with stub() as (url, _):
            facts = ours(folder, url, "--rows", 4000)
            other = peer(python, folder, url, 1000, 64)
        found["rate"].append(facts["rows"] / facts["seconds"])
        found["cpu"].append(1000 * facts["cpu"] / facts["rows"])
        found["peer"].append(other["rows"] / other["seconds"])
        found["peer_cpu"].append(1000 * other["cpu"] / other["rows"])
        with stub(latency=0.1) as (url, _):
            facts, other = ours(folder, url, "--rows", 3000), peer(python, folder, url, 1000, 64)
        found["share"].append(100 * facts["rows"] * 0.1 / 64 / facts["seconds"])
        found["peer_share"].append(100 * other["rows"] * 0.1 / 64 / other["seconds"])
        print(f"run {run + 1}: {found['rate'][-1]:.0f} calls/s, {found['share'][-1]:.0f} % of the ceiling", flush=True)
    trove = "datatrove 0.10.1, checkpoints"
    return [
        Result("durable calls, 0 ms stub, 64 at once", "calls/s", found["rate"], 1500, True, trove, found["peer"]),
        Result("CPU per durable call", "ms", found["cpu"], 1.0, False, trove, found["peer_cpu"]),
        Result("of the ceiling, 100 ms stub, 64 at once", "%", found["share"], 85, True, trove, found["peer_share"]),
    ]


def refusals(folder: Path) -> list[Result]:
    """600 rows against random refusals, and against a token bucket."""
    random_ones, goodput, wasted = [], [], []
    for _ in range(RUNS):
        with stub(refuse=0.2, latency=0.02) as (url, _):
            random_ones.append(ours(folder, url, "--rows", 600, "--parallel", 32)["seconds"])
        with stub(bucket=100, latency=0.02) as (url, stats):
            goodput.append(600 / ours(folder, url, "--rows", 600, "--parallel", 32)["seconds"])
            wasted.append(100 * stats()["refused"] / stats()["requests"])
    print(f"refusals: {random_ones[-1]:.1f} s, {goodput[-1]:.0f} rows/s", flush=True)
    return [
        Result("600 rows, 20 % random 429", "s", random_ones, 3.0, False),
        Result("token bucket of 100/s with Retry-After", "rows/s", goodput, 90, True),
        Result("of the requests refused by the bucket", "%", wasted, None, False),
    ]


def kills(folder: Path) -> list[Result]:
    """kill -9 at ten random points, each followed by a rerun: what was asked twice, and are the rows equal?"""
    picker, repeated, equal = random.Random(0), [], []
    options = ("--rows", 1000, "--parallel", 32)
    with stub(latency=0.05) as (url, _):
        ours(folder, url, *options, "--out", folder / "whole.txt")
    for point in range(10):
        with stub(latency=0.05) as (url, stats):
            ledger = folder / f"kill-{point}.sqlite"
            command = list(map(str, [sys.executable, HERE / "asking.py", url, ledger, *options]))
            process = subprocess.Popen(command)
            until = picker.randrange(50, 950)
            while stats()["answered"] < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            again = subprocess.run([*command, "--out", str(folder / "again.txt")], check=True, capture_output=True)
            repeated.append(stats()["repeated"])
            equal.append((folder / "again.txt").read_bytes() == (folder / "whole.txt").read_bytes())
            assert json.loads(again.stdout)["rows"] == 1000
    print(f"kills: asked twice {repeated}", flush=True)
    return [
        Result("asked twice after kill -9 (most of ten)", "calls", [float(max(repeated))], 32, False),
        Result("reruns whose rows equal the undisturbed run's", "of 10", [float(sum(equal))], 10, True),
    ]


def faults(folder: Path) -> list[Result]:
    """5 % malformed JSON, 1 % each of hang, cut body and reset: rows in = answered + failed with a reason."""
    whole, failed = [], []
    for seed in range(RUNS):
        with stub(malformed=0.05, hang=0.01, cut=0.01, reset=0.01, seed=seed) as (url, _):
            facts = ours(folder, url, "--rows", 1000, "--parallel", 64, "--timeout", 2, "--schema")
        whole.append(100 * facts["rows"] / 1000)
        failed.append(float(facts["failed"]))
    return [
        Result("rows accounted for among faults", "%", whole, 100, True),
        Result("of 1000, failed with a reason after two re-asks", "rows", failed, None, False),
    ]


def memory(folder: Path) -> list[Result]:
    """100,000 rows in one stage."""
    with stub() as (url, _):
        facts = [ours(folder, url, "--rows", 100_000)]
    rate = facts[0]["rows"] / facts[0]["seconds"]
    return [
        Result("resident, 100,000 rows", "MB", [f["peak_mb"] for f in facts], 200, False, note=f"{rate:.0f} calls/s")
    ]


def main() -> None:
    """Run all parts and publish."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = environment(folder / "peer")
        results = throughput(folder, python) + refusals(folder) + kills(folder) + faults(folder) + memory(folder)
    publish("engine", results, ("aiohttp", "orjson", "uvloop"))


if __name__ == "__main__":
    main()
