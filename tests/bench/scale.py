"""Whether memory and time of a step grow with its rows as they should: its own path at 10,000 to 100,000 rows and 1 GB.

`python tests/bench/scale.py [MEGABYTES …]`, by default 1000. For step 01: generated Chinese articles go through the
functions that the notebook calls, from the file to the index. The embedder is a hash of the text, because two cores
would take weeks to embed 1 GB; everything else is measured. Each size runs in a process of its own, whose peak of
resident memory the kernel keeps; mapped files count in it as far as they are resident, though the kernel may take
that part back at any time, so the peak of the rest (anonymous memory) is given too, sampled twice a second. The growth
from 10,000 to 100,000 chunks is fitted as c · n^exponent.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np
from chunking import CHARACTERS, articles, write_jsonl
from record import Result, publish

from kyara_utils.knowledge.chunks.corpus_tables import write_corpus
from kyara_utils.knowledge.embedders import unit
from kyara_utils.knowledge.index.open_index import build_index
from kyara_utils.knowledge.index.passages import stored_passages
from kyara_utils.knowledge.index.retrieval_quality import known_item_ranks
from kyara_utils.knowledge.readers.folder import read_corpus
from kyara_utils.knowledge.vector_store import VectorStore
from kyara_utils.models.run_vocabulary import RunVocabulary
from kyara_utils.runs import iter_rows, sample_rows

LIMIT = 1536.0  # MB
ROWS = (10_000, 20_000, 50_000, 100_000)
MEGABYTES_A_ROW = 0.00049  # of these articles, cut to 256 characters at most; 100,000 stay below `edge.IN_MEMORY`
ASKED = 100
PACKAGES = ("qdrant-edge-py", "numpy", "pyarrow")


class Hashed:
    """An embedder without a model: 32 numbers from a hash of the text."""

    name, dim, batch = "hashed", 32, 256
    count_tokens = staticmethod(len)

    def passages(self, texts: list[str]) -> np.ndarray:
        digests = b"".join(blake2b(text.encode(), digest_size=self.dim).digest() for text in texts)
        return unit(np.frombuffer(digests, np.uint8).reshape(-1, self.dim).astype(np.float32) - 127.5)

    queries = passages


def indexing(folder: Path) -> dict[str, float]:
    """Step 01 of `folder`/corpus.jsonl, as its notebook goes; {chunks, seconds of each part, peak MB after each}."""
    found, model, vocabulary = {}, Hashed(), RunVocabulary(262_144)
    chunks = folder / "chunks.parquet"

    def took(name: str, begin: float) -> None:
        found[f"{name}_s"] = time.process_time() - begin
        found[f"{name}_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found), file=sys.stderr, flush=True)

    begin = time.process_time()
    items = read_corpus(folder / "corpus.jsonl")
    counts = write_corpus(items, folder, model.count_tokens, CHARACTERS, see=vocabulary.add, progress=False)
    took("chunks", begin)
    begin = time.process_time()
    with VectorStore(folder / "vectors.sqlite") as store:
        opened = build_index(folder / "index", stored_passages(chunks, model, store, progress=False), model)
    took("index", begin)
    begin = time.process_time()
    items = [{"question": row["text"][:40], "doc_id": row["doc_id"]} for row in sample_rows(chunks, ASKED, 0)]
    ranks = known_item_ranks(opened, items, ("bm25",))
    took("quality", begin)
    assert len(opened) == counts.chunks == sum(1 for _ in iter_rows(chunks, ["id"])) and not counts.lost
    opened.close()
    return found | {"chunks": counts.chunks, "rejects": counts.rejects, "asked": len(ranks)}


def child(megabytes: float) -> dict[str, float]:
    """Generate a corpus of this size and index it in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "corpus.jsonl", articles(megabytes))
        begin = time.perf_counter()
        command = [sys.executable, __file__, "--measure", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            anonymous = sampled(process)
            found = json.loads(process.communicate()[0].splitlines()[-1])
        found |= {"wall_s": time.perf_counter() - begin, "anonymous_mb": anonymous}
        found |= {"mb": megabytes, "disk_mb": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6}
    print(json.dumps(found), flush=True)
    return found


def sampled(process: subprocess.Popen) -> float:
    """The most anonymous memory, in MB, that a process was seen with until its end."""
    most = 0.0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text().split()
        most = max(most, int(status[status.index("RssAnon:") + 1]) / 1024 if "RssAnon:" in status else 0.0)
        time.sleep(0.5)
    return most


def exponent(rows: list[dict[str, float]], value: str) -> float:
    """The slope of log value over log chunks, by least squares."""
    x, y = ([math.log(row[name]) for row in rows] for name in ("chunks", value))
    return float(np.polyfit(x, y, 1)[0])


def main(sizes: list[float]) -> None:
    growth = [child(rows * MEGABYTES_A_ROW) for rows in ROWS]
    span = f"{growth[0]['chunks']:,} to {growth[-1]['chunks']:,} chunks"
    for row in growth:
        row["total_s"] = row["chunks_s"] + row["index_s"]
        row["above_mb"] = row["index_mb"] - growth[0]["index_mb"]
    results = [
        Result(f"01, exponent of CPU time, {span}", "", [exponent(growth, "total_s")], 1.2, False),
        Result(f"01, exponent of peak memory, {span}", "", [exponent(growth, "index_mb")], 1.0, False),
        Result("01, memory for each more chunk", "kB", [1024 * growth[-1]["above_mb"] / growth[-1]["chunks"]],
               None, False),
    ]  # fmt: skip
    publish("scale", results, PACKAGES)
    for size in sizes:
        row = child(size)
        note = f"{row['chunks']:,} chunks, {row['rejects']:,} rejects; a hash for an embedder (32 dimensions); one run"
        text = f"{size:,.0f} MB of text"
        results += [
            Result(f"01, peak memory, {text}", "MB", [row["index_mb"]], LIMIT, False, note=note),
            Result(f"01, peak memory until the chunks are written, {text}", "MB", [row["chunks_mb"]], LIMIT, False),
            Result(f"01, read, cut and compare, CPU, {text}", "s", [row["chunks_s"]], None, False),
            Result(f"01, index, CPU, {text}", "s", [row["index_s"]], None, False),
            Result(f"01, peak of anonymous memory, {text}", "MB", [row["anonymous_mb"]], LIMIT, False),
        ]
        publish("scale", results, PACKAGES)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(indexing(Path(sys.argv[2]))))
    else:
        main([float(size) for size in sys.argv[1:]] or [1000.0])
