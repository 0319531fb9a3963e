"""The index: what a search promises, and what updates, faults and a killed process must leave behind."""

import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from kyara_utils.knowledge.chunks.chunk import Chunk
from kyara_utils.knowledge.chunks.chunk_rows import chunk_row
from kyara_utils.knowledge.embedders import unit
from kyara_utils.knowledge.index import edge, passages, ranking
from kyara_utils.knowledge.index import server as server_index
from kyara_utils.knowledge.index.open_index import EdgeIndex, build_index, open_index
from kyara_utils.knowledge.index.passages import Passages, held_passages, stored_passages
from kyara_utils.knowledge.index.ranking import fuse, settled
from kyara_utils.knowledge.index.server import ServerIndex, connect, layout_of, split_url
from kyara_utils.knowledge.vector_store import VectorStore
from kyara_utils.runs import KyaraError, write_rows
from kyara_utils.runs.schemas import CHUNK

FRUITS = ("蘋果", "香蕉", "芒果", "鳳梨", "荔枝", "龍眼", "西瓜", "葡萄")


class Letters:
    """An embedder without a model: vectors from a hash of the text."""

    name, dim = "letters", 8

    def count_tokens(self, text):
        return len(text)

    def passages(self, texts):
        rows = [np.frombuffer(blake2b(t.encode(), digest_size=8).digest(), np.uint8) for t in texts]
        return unit(np.array(rows, np.float32))

    queries = passages


class Wider(Letters):
    name, dim = "wider", 9


def chunk(number, text="", doc="", lang="zh-Hant", path=""):
    fruit = FRUITS[number % len(FRUITS)]
    text = text or f"{number}號文件談論第{number}種水果{fruit}"
    return Chunk(f"id_{number:08x}", doc or f"doc_{number}", f"題{number}", "", text, 0, 9, lang, path=path)


def small(n=6):
    chunks = [chunk(number) for number in range(n)]
    return chunks, vectors_of(chunks)


def vectors_of(chunks):
    return Letters().passages([c.passage() for c in chunks])


def found(index, text="水果", k=50, **options):
    return sorted(hit.chunk_id for hit in index.search(text, k, mode="bm25", **options))


@pytest.fixture(params=["edge", "server"])
def build(request, tmp_path):
    """The same promises, kept by both engines."""
    if request.param == "edge":
        return lambda *held: EdgeIndex.build(tmp_path / "i", held_passages(*held), Letters())
    client = connect(":memory:")
    return lambda *held: ServerIndex.build(client, "k", held_passages(*held), Letters())


# Search


def test_hybrid_is_the_fusion_of_both_rankings(build):
    """If one retriever dropped out of the fusion, hybrid would silently be the other one."""
    with build(*small(40)) as index:
        rankings = []
        for mode in ("dense", "bm25"):
            hits = index.search("第7種水果", 20, mode)
            rankings.append([hit.chunk_id for hit in hits])
        expected = [chunk_id for _, chunk_id in fuse(rankings)[:5]]
        assert [hit.chunk_id for hit in index.search("第7種水果", 5)] == expected


def test_filters_narrow_every_mode(build):
    """A search within one topic that leaks others, or that filters after cutting to k, would return too few."""
    paths = {f"doc_{n}": f"{'a' if n % 2 else 'b'}/{n}.md" for n in range(40)}
    chunks = [chunk(n, lang="en" if n % 4 == 0 else "zh-Hant", path=paths[f"doc_{n}"]) for n in range(40)]
    with build(chunks, vectors_of(chunks)) as index:
        for mode in ("dense", "bm25", "hybrid"):
            hits = index.search("水果", 10, mode, where={"topic": "a"})
            assert len(hits) == 10 and all(paths[hit.doc_id].startswith("a/") for hit in hits)
            both = index.search("水果", 40, mode, where={"topic": "b", "lang": "en"})
            assert {hit.doc_id for hit in both} == {f"doc_{n}" for n in range(0, 40, 4)}
        assert found(index, where={"doc_id": ["doc_3", "doc_5"]}) == ["id_00000003", "id_00000005"]
        assert found(index, where={"path": "a/9.md"}) == ["id_00000009"]
        with pytest.raises(KyaraError, match="use lang, topic, doc_id, path"):
            index.search("水果", where={"author": "x"})


def test_a_known_vector_is_used_instead_of_embedding(build):
    """Evaluation embeds its questions once; a search that embedded again would pay three times."""
    chunks, vectors = small()
    with build(chunks, vectors) as index:
        index.embedder = None
        assert index.search("x", 1, "dense", vector=vectors[4])[0].chunk_id == "id_00000004"


def test_fusion_rewards_agreement_and_breaks_ties_by_id():
    """Two runs must not order equal scores differently."""
    fused = fuse([[3, 2], [2, 1]])
    assert fused == [(1 / 61 + 1 / 62, 2), (1 / 61, 3), (1 / 62, 1)]
    assert [name for _, name in fuse([["b"], ["a"]])] == ["a", "b"]


def test_many_questions_at_once_find_what_each_finds_alone(build, monkeypatch):
    """Step 02 asks six questions a draft; together they must cost one embedding, and change nothing."""
    monkeypatch.setattr(ranking, "TOGETHER", 4)
    texts = ["第7種水果", " ", "！？", "香蕉", "", "第9號文件", "西瓜與葡萄", "x", "第3種水果蘋果"]
    with build(*small(40)) as index:
        for mode in ("dense", "bm25", "hybrid"):
            for where in ({}, {"doc_id": ["doc_1", "doc_7", "doc_9"]}):
                alone = [index.search(text, 3, mode, where) for text in texts]
                assert index.search_many(texts, 3, mode, where) == alone
        index.embedder = SimpleNamespace(queries=Mock(side_effect=Letters().queries))
        index.search_many(texts, 3)
        assert [len(call.args[0]) for call in index.embedder.queries.call_args_list] == [4, 3]
        known = Letters().queries(texts)
        assert index.search_many(texts, 2, "dense", vectors=known)[3] == index.search("香蕉", 2, "dense")
        assert index.search_many([], 3) == [] and index.search_many(["香蕉"], 0) == [[]]


def test_a_tie_at_the_cut_is_settled_by_id():
    """Engines cut a tie at random: of ten equal points the same three must come, whichever the engine lists first."""
    points = [(1.0, number) for number in range(10)]
    for order in (points, points[::-1]):
        asked = []

        def rank(queries, limit, order=order, asked=asked):
            asked.append(limit)
            return [order[:limit] for _ in queries]

        assert settled(rank, [("dense", [0.0])], 3) == [[(1.0, 0), (1.0, 1), (1.0, 2)]]
        assert asked == [4, 8, 16]


def test_rebuild_is_idempotent_and_replaces(tmp_path):
    """A rerun must give the same answers, and chunks that are gone must be gone from the index."""
    chunks, vectors = small()
    answers = []
    for _ in range(2):
        with EdgeIndex.build(tmp_path / "i", held_passages(chunks, vectors), Letters()) as index:
            answers.append([index.search("第3種水果", 4, mode) for mode in ("bm25", "dense", "hybrid")])
            assert len(index) == len(found(index)) == 6
    assert answers[0] == answers[1] and answers[0][0][0].chunk_id == "id_00000003"
    with EdgeIndex.build(tmp_path / "i", held_passages(chunks[:2], vectors[:2]), Letters()) as index:
        assert found(index) == ["id_00000000", "id_00000001"]
    assert [p.name for p in tmp_path.iterdir()] == ["i"]


def test_ids_up_to_64_bits(build):
    """Chunk ids may grow where 32 bits collide; a cut-off id would put two chunks into one place."""
    chunks, _ = small(2)
    chunks[1] = replace(chunks[1], id="id_ffffffff00000000")
    with build(chunks, vectors_of(chunks)) as index:
        assert found(index) == ["id_00000000", "id_ffffffff00000000"]


def test_an_empty_index_answers_nothing(build):
    """A corpus may be rejected whole."""
    with build([], np.zeros((0, 8), np.float32)) as index:
        assert len(index) == 0 and index.search("水果") == []


# The graph


def clustered(n, dim=32, seed=0):
    """Points around 20 centres, so that neighbours mean something."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, dim))
    return unit(centres[np.arange(n) % 20] + 0.3 * random.standard_normal((n, dim)))


def graph_built(index):
    """The engine counts a point once for BM25 and once more in a graph; a last small segment may be scanned."""
    return index._opened.info().indexed_vectors_count >= 1.8 * len(index)


@pytest.mark.parametrize("mapped", [False, True])
def test_int8_graph_with_rescoring_finds_the_true_neighbours(tmp_path, monkeypatch, mapped):
    """Without rescoring int8 loses some neighbours; without the graph a large index would scan.

    An index too large for memory is made of more segments, in mapped files, and must find the same.
    """
    monkeypatch.setattr(edge, "GRAPH_ABOVE", 500)  # kilobytes and points: small enough to build in a test
    if mapped:
        monkeypatch.setattr(edge, "IN_MEMORY", 1000)
        monkeypatch.setattr(edge, "SEGMENT", 1000)
    model = type("Model", (Letters,), {"name": "m", "dim": 32})()
    chunks, vectors = [chunk(n) for n in range(6000)], clustered(6000)
    with EdgeIndex.build(tmp_path / "i", held_passages(chunks, vectors), model) as index:
        assert graph_built(index) and len(index) == 6000
        assert found(index, "第4321種水果", 1, where={"doc_id": "doc_4321"}) == ["id_000010e1"]
        recalls = []
        for question in clustered(40, seed=1):
            truth = {f"id_{n:08x}" for n in np.argsort(-(vectors @ question))[:10]}
            hits = index.search("x", 10, "dense", vector=question)
            recalls.append(len(truth & {hit.chunk_id for hit in hits}) / 10)
        scores = [hit.score for hit in hits]
        assert np.mean(recalls) >= 0.98
        assert np.allclose(scores, np.sort(vectors @ question)[::-1][:10], atol=2e-5)  # float32, not int8


def test_an_index_that_outgrows_the_scan_gets_its_graph(tmp_path, monkeypatch):
    """An index grown by upserts would otherwise scan for ever."""
    monkeypatch.setattr(edge, "GRAPH_ABOVE", 500)
    model = type("Model", (Letters,), {"name": "m", "dim": 32})()
    chunks, vectors = [chunk(n) for n in range(6000)], clustered(6000)
    with EdgeIndex.build(tmp_path / "i", held_passages(chunks[:400], vectors[:400]), model) as index:
        index.upsert(chunks[400:], vectors[400:])
        assert not graph_built(index)  # nothing is built while points come in
        before = {hit.chunk_id for hit in index.search("x", 10, "dense", vector=vectors[5])}
        index.optimise()
        assert graph_built(index)
        assert len(before & {hit.chunk_id for hit in index.search("x", 10, "dense", vector=vectors[5])}) >= 9
    with EdgeIndex.open(tmp_path / "i", model) as index:
        assert len(index) == 6000 and index._facts["graph"]


# Updates


def test_upsert_adds_replaces_and_repeats(build):
    """Adding the same chunks again must change nothing."""
    chunks, vectors = small(6)
    with build(chunks[:4], vectors[:4]) as index:
        for _ in range(2):
            index.upsert(chunks[2:], vectors[2:])
            assert len(index) == 6 and found(index) == [c.id for c in chunks]
        changed = chunk(3, text="第3號改談蔬菜")
        index.upsert([changed], vectors_of([changed]))
        assert len(index) == 6 and found(index, "蔬菜") == ["id_00000003"]
        assert "id_00000003" not in found(index)


def test_a_changed_document_loses_its_old_chunks(build):
    """A document's id changes with its content; known by its path, what it no longer says must not be found."""
    old = [chunk(n, doc="doc_old", path="a/1.md") for n in range(3)] + [chunk(9, doc="doc_other", path="a/2.md")]
    with build(old, vectors_of(old)) as index:
        new = [chunk(n, doc="doc_new", path="a/1.md") for n in (1, 20)]
        assert index.update_documents(new, vectors_of(new), ["a/1.md"]) == 2
        assert found(index) == ["id_00000001", "id_00000009", "id_00000014"]
        assert index.update_documents([], vectors_of(new)[:0], ["a/1.md"]) == 2
        assert found(index) == ["id_00000009"]
        shorter = [chunk(30, doc="doc_other", path="a/2.md")]
        assert index.update_documents(shorter, vectors_of(shorter)) == 1
        assert index.remove(["doc_other", "doc_unknown"]) == 1 and len(index) == 0


def test_snapshot_and_restore(tmp_path):
    """A snapshot holds the index as it was, also while it stays open and is changed afterwards."""
    chunks, vectors = small()
    with EdgeIndex.build(tmp_path / "i", held_passages(chunks, vectors), Letters()) as index:
        before = index.search("第3種水果", 4)
        index.snapshot(tmp_path / "kept.tar")
        index.remove([c.doc_id for c in chunks[:4]])
        assert len(index) == 2
    with EdgeIndex.restore(tmp_path / "kept.tar", tmp_path / "i", Letters()) as index:
        assert len(index) == 6 and index.search("第3種水果", 4) == before
        index.upsert([chunk(7)], vectors_of([chunk(7)]))
        assert len(index) == 7
    (tmp_path / "bad.tar").write_bytes(b"no archive" * 100)
    for wrong, model, message in (("bad.tar", Letters(), "no snapshot"), ("kept.tar", Wider(), "built with letters")):
        with pytest.raises(KyaraError, match=message):
            EdgeIndex.restore(tmp_path / wrong, tmp_path / "other", model)
    assert not (tmp_path / "other").exists()


# Faults


def test_index_errors_name_the_mend(tmp_path):
    """A wrong folder must not be deleted, and a wrong model must not search."""
    chunks, vectors = small()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(KyaraError, match="choose a new or empty folder"):
        EdgeIndex.build(tmp_path / "photos", held_passages(chunks, vectors), Letters())
    assert (tmp_path / "photos" / "a.jpg").exists()
    with pytest.raises(KyaraError, match="01_corpus_indexing"):
        EdgeIndex.open(tmp_path / "i", Letters())
    with EdgeIndex.build(tmp_path / "i", held_passages(chunks, vectors), Letters()) as index:
        with pytest.raises(KyaraError, match="close the notebook"):
            EdgeIndex.open(tmp_path / "i", Letters())
        with pytest.raises(KyaraError, match="close the notebook"):
            EdgeIndex.build(tmp_path / "i", held_passages(chunks, vectors), Letters())
        with pytest.raises(KyaraError, match="unknown search mode"):
            index.search("水果", mode="fuzzy")
        assert index.search("  ") == [] and index.search("！？", mode="bm25") == []
    with pytest.raises(KyaraError, match="is closed"):
        index.search("水果")
    with pytest.raises(KyaraError, match="built with letters"):
        EdgeIndex.open(tmp_path / "i", Wider())


def test_bad_chunks_are_refused_before_anything_is_written(build):
    """Duplicate ids, foreign ids, another dimension or a NaN: one line, and the index stays as it was."""
    chunks, vectors = small()
    foreign = replace(chunks[1], id="chapter-1")
    broken = vectors.copy()
    broken[2, 3] = np.nan
    cases = (
        (chunks, vectors[:, :4], "embed the chunks again"),
        ([*chunks[:5], chunks[0]], vectors, "two chunks have the id id_00000000"),
        ([*chunks[:5], foreign], vectors, "'chapter-1' is no chunk id"),
        (chunks, broken, "vector of chunk id_00000002 is not finite"),
    )
    index = build(chunks[:3], vectors[:3])
    for wrong, their, message in cases:
        with pytest.raises(KyaraError, match=message):
            index.upsert(wrong, their)
    assert len(index) == 3
    if isinstance(index, EdgeIndex):
        index.close()  # an open folder cannot be replaced at all
    for wrong, their, message in cases:
        with pytest.raises(KyaraError, match=message):
            build(wrong, their)
    index = EdgeIndex.open(index.path, Letters()) if isinstance(index, EdgeIndex) else index
    assert len(index) == 3
    index.close()


KILLED = """
import sys; sys.path[:0] = [{tests!r}]
import os, signal
from test_index import EdgeIndex, Letters, chunk, held_passages, vectors_of
chunks = [chunk(n) for n in range({start}, {stop})]
{action}
"""


def start_killed(action, start, stop, folder):
    code = KILLED.format(tests=os.path.dirname(__file__), start=start, stop=stop, action=action)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=folder)


UPSERT = """
index = EdgeIndex.open("i", Letters())
class Dying(list):
    def __getitem__(self, at):
        if isinstance(at, slice) and (at.start or 0) >= {after}:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(at)
index.upsert(Dying(chunks), vectors_of(chunks))
"""


@pytest.mark.parametrize("after", [256, 1024])
def test_a_killed_upsert_leaves_a_whole_index_and_a_rerun_completes_it(tmp_path, after):
    """kill -9 in the middle of an upsert: no half point, nothing twice, and the rerun ends where one run would."""
    chunks, vectors = small(300)
    EdgeIndex.build(tmp_path / "i", held_passages(chunks, vectors), Letters()).close()
    process = start_killed(UPSERT.format(after=after), 200, 2000, tmp_path)
    assert process.wait(60) == -signal.SIGKILL
    rest = [chunk(n) for n in range(200, 2000)]
    with EdgeIndex.open(tmp_path / "i", Letters()) as index:
        there = found(index, k=3000)
        assert len(index) == len(there) == len(set(there)) and 300 <= len(index) < 2000
        index.upsert(rest, vectors_of(rest))
        assert found(index, k=3000) == [f"id_{n:08x}" for n in range(2000)] and len(index) == 2000


def test_a_killed_build_leaves_the_old_index_and_no_litter(tmp_path):
    """kill -9 during a rebuild: the old index answers, the next build sweeps up the half one."""
    chunks, vectors = small()
    EdgeIndex.build(tmp_path / "i", held_passages(chunks, vectors), Letters()).close()
    process = start_killed(
        'EdgeIndex.build("i", held_passages(chunks, vectors_of(chunks)), Letters())', 0, 60_000, tmp_path
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("i.*.tmp/segments")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 2
    with EdgeIndex.open(tmp_path / "i", Letters()) as index:
        assert found(index) == [c.id for c in chunks]
    with EdgeIndex.build(tmp_path / "i", held_passages(chunks[:2], vectors[:2]), Letters()) as index:
        assert len(index) == 2 and [p.name for p in tmp_path.iterdir()] == ["i"]


def test_a_damaged_index_is_explained(tmp_path):
    """A disk fault must not end in a stack trace of the engine."""
    EdgeIndex.build(tmp_path / "i", held_passages(*small()), Letters()).close()
    (tmp_path / "i" / "edge_config.json").write_text("{")
    with pytest.raises(KyaraError, match="delete it and build it again"):
        EdgeIndex.open(tmp_path / "i", Letters())
    (tmp_path / "i" / "kyara.json").write_text(json.dumps({"embedder": "letters"}))
    with pytest.raises(KyaraError, match="no complete index"):
        EdgeIndex.open(tmp_path / "i", Letters())


# Server


@pytest.mark.parametrize("target", ["edge", "server"])
def test_an_index_is_built_from_tables_a_batch_at_a_time(tmp_path, target, monkeypatch):
    """A corpus larger than memory must index as one that is held, each vector computed once, whatever the engine."""
    monkeypatch.setattr(passages, "BATCH", 100)
    chunks, vectors = small(730)
    write_rows(tmp_path / "chunks.parquet", [chunk_row(c) for c in chunks], CHUNK)
    model, most = Letters(), []
    model.passages = Mock(side_effect=Letters().passages)
    with VectorStore(tmp_path / "v.sqlite") as store:
        found = stored_passages(tmp_path / "chunks.parquet", model, store, progress=False)
        assert (found.count, found.average) == (730, held_passages(chunks, vectors).average)
        counted = Passages(730, found.average, lambda: (most.append(len(c)) or (c, v) for c, v in found.batches()))
        if target == "edge":
            index = EdgeIndex.build(tmp_path / "i", counted, model)
        else:
            index = ServerIndex.build(connect(":memory:"), "k", counted, model)
    held = EdgeIndex.build(tmp_path / "held", held_passages(chunks, vectors), Letters())
    with index, held:
        assert len(index) == 730 and max(most) == 100
        assert sum(len(call.args[0]) for call in model.passages.call_args_list) == 730
        for text in ("第7種水果", "香蕉"):
            assert index.search(text, 9, "bm25") == held.search(text, 9, "bm25")


def test_server_rebuild_replaces_and_repeats():
    """A rebuild must leave one collection behind the alias, and the same content must not upload again."""
    chunks, vectors = small()
    client = connect(":memory:")
    for _ in range(2):
        ServerIndex.build(client, "k", held_passages(chunks, vectors), Letters())
    first = [c.name for c in client.get_collections().collections]
    index = ServerIndex.build(client, "k", held_passages(chunks[:4], vectors[:4]), Letters())
    names = [c.name for c in client.get_collections().collections]
    assert len(first) == len(names) == 1 and first != names and len(index) == 4
    with pytest.raises(KyaraError, match="built with letters"):
        ServerIndex.open(client, "k", Wider())
    with pytest.raises(KyaraError, match="no collection"):
        ServerIndex.open(client, "nothing", Letters())


def test_server_builds_the_graph_after_the_points(monkeypatch):
    """A graph that grows with each batch makes a large upload several times slower."""
    client, calls = connect(":memory:"), []
    for name in ("create_collection", "upload_points", "update_collection", "create_payload_index"):

        def record(*args, call=None, name=name, **options):
            calls.append((name, options))
            return call(*args, **options)

        monkeypatch.setattr(client, name, partial(record, call=getattr(client, name)))
    monkeypatch.setattr(edge, "GRAPH_ABOVE", 4)
    ServerIndex.build(client, "k", held_passages(*small()), Letters())
    names = [name for name, _ in calls]
    assert names == ["create_collection", *["create_payload_index"] * 4, "upload_points", "update_collection"]
    assert calls[0][1]["hnsw_config"].m == 0 and calls[-1][1]["hnsw_config"].m == edge.HNSW["m"]
    assert calls[0][1]["quantization_config"].scalar.type == "int8"


def test_server_snapshots_name_the_collection_behind_the_alias(monkeypatch):
    """The local mode has no snapshots: what is checked is what the client is asked, against its own signatures."""
    client, calls = connect(":memory:"), []
    index = ServerIndex.build(client, "k", held_passages(*small()), Letters())
    for name in ("create_snapshot", "recover_snapshot"):

        def answer(*args, signature=None, **options):
            calls.append(signature.bind(*args, **options).arguments)
            return SimpleNamespace(name="k.snapshot")

        monkeypatch.setattr(client, name, partial(answer, signature=inspect.signature(getattr(client, name))))
    assert index.snapshot() == "k.snapshot"
    assert calls[0]["collection_name"] == client.get_collections().collections[0].name != "k"
    assert len(ServerIndex.restore(client, "k", "http://h/k.snapshot", Letters())) == 6
    assert (calls[1]["collection_name"], calls[1]["location"]) == ("k", "http://h/k.snapshot")


class Exchange(BaseHTTPRequestHandler):
    """A server that holds nothing: it keeps what it was sent, and answers as Qdrant's REST interface does."""

    protocol_version, sent = "HTTP/1.1", []

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.sent.append((self.command, self.path.split("?")[0], json.loads(body or b"null")))
        done = {"operation_id": 0, "status": "completed"} if "/points" in self.path or "/index" in self.path else True
        whole = {"/exists": {"exists": False}, "/aliases": {"aliases": []}}
        kinds = [value for end, value in whole.items() if self.command == "GET" and self.path.endswith(end)]
        answer = json.dumps({"result": (kinds or [done])[0], "status": "ok", "time": 0.0}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = do_PUT

    def log_message(self, *_):
        pass


def test_a_cluster_gets_its_shards_and_every_point_once(monkeypatch):
    """What is sent, as the client sends it; nothing here has met a real cluster."""
    Exchange.sent.clear()
    monkeypatch.setattr(server_index, "BATCH", 2)
    monkeypatch.setattr(ServerIndex, "open", classmethod(lambda cls, *_: "opened"))
    recorder = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
    threading.Thread(target=recorder.serve_forever, daemon=True).start()
    target = f"http://127.0.0.1:{recorder.server_port}/k?shards=6&replicas=2&parallel=2"
    assert build_index(target, held_passages(*small()), Letters()) == "opened"
    recorder.shutdown()
    (made,) = [body for how, path, body in Exchange.sent if how == "PUT" and path.count("/") == 2]
    assert (made["shard_number"], made["replication_factor"]) == (6, 2)
    points = [p["id"] for _, path, body in Exchange.sent if path.endswith("/points") for p in body["points"]]
    assert len(points) == len(set(points)) == 6
    assert "alias_name" in json.dumps(Exchange.sent[-1][2])


def test_a_layout_is_read_from_the_address():
    """A misspelt word would leave a cluster's collection on one node."""
    assert layout_of("http://h:6333/k?shards=6&replicas=2") == (6, 2, 1) and layout_of("http://h") == (0, 0, 1)
    assert split_url("http://h:6333/k?shards=6") == ("http://h:6333", "k")
    for wrong in ("shard=6", "shards=six", "shards="):
        with pytest.raises(KyaraError, match="shards=6&replicas=2"):
            layout_of(f"http://h/k?{wrong}")


def test_a_url_names_server_and_collection(tmp_path):
    """One parameter chooses the engine: a folder or a URL."""
    assert split_url("http://h:6333/books/") == ("http://h:6333", "books")
    assert split_url("https://h/proxy/books") == ("https://h/proxy", "books")
    assert split_url("http://h:6333") == ("http://h:6333", "kyara")
    with build_index(tmp_path / "i", held_passages(*small()), Letters()) as index:
        assert isinstance(index, EdgeIndex)
    with open_index(tmp_path / "i", Letters()) as index:
        assert len(index) == 6
    with pytest.raises(KyaraError, match="check its address"):
        open_index("http://127.0.0.1:9/books", Letters())


def test_ties_need_not_be_chased_for_ever():
    """A corpus of equal texts would otherwise be read whole for one question."""
    asked = []
    settled(lambda queries, n: asked.append(n) or [[(1.0, i) for i in range(n)]], [("bm25", ([1], [1.0]))], 5)
    assert max(asked) <= 2 * ranking.MAX_TIED
