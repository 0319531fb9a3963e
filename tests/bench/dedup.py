"""Near and semantic duplicates beside other tools, with their errors counted.

`python tests/bench/dedup.py [near] [semantic] [ROWS …]`; a run with words is recorded beside the usual one.

Near: Chinese questions and answers of some 200 characters, one in ten an edited copy (2 % of the characters), one in
five a hard negative: a template with another number in the question, or with another name there and another number in
the answer. F1 is that of removing the copies and nothing else. Beside it: rensa and datasketch as they are used, by
LSH alone. Semantic: no two kept rows may reach the threshold; semhash's kept pairs that do are counted, above 50,000
rows those of 10,000 kept rows drawn by seed. A peer that is not installed is left out. Near duplicates take one core,
semantic ones all; each measurement once, since the CPU time of minutes varies little.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import random
import resource
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from record import Result, publish
from scale_curation import conversations, exponent, vectors

from kyara_utils.curation.duplicates import near_duplicates
from kyara_utils.curation.semantic_duplicates import semantic_duplicates
from kyara_utils.runs.tables import content_id, turns
from kyara_utils.text.folding import fold
from kyara_utils.text.ngrams import ngrams

ROWS = (5_000, 20_000, 50_000)
THRESHOLD, COSINE = 0.7, 0.95
TARGETS = {20_000: 2.0}  # CPU seconds
MILLION = {1_000_000: (180.0, 4096.0)}  # seconds by the clock, MB of the process with rows and vectors
SAMPLE = 10_000  # kept rows whose pairs are looked at in a large table


def near_rows(count: int) -> list[dict]:
    """Conversation rows with `kind` original, copy, question or answer (the two hard negatives)."""
    rng, rows = random.Random(0), []
    drawn = [pair for pair in conversations(2 * count, seed=1) if len(pair[1]) > 190 and "屆" not in pair[0]]
    pairs = list({ask: (ask, reply) for ask, reply in drawn}.values())  # one answer to each question
    templates, originals = pairs[:200], pairs[200:]
    for number in range(count):
        draw, (ask, reply) = rng.random(), templates[rng.randrange(200)]
        if draw < 0.1 and number:
            kind, (ask, reply) = "copy", rng.choice([row["pair"] for row in rows[-50:] if row["kind"] != "copy"])
            reply = "".join(rng.choice("山水火木") if rng.random() < 0.02 and not c.isdigit() else c for c in reply)
        elif draw < 0.2:
            kind, ask = "question", f"{ask}第{number}屆"
        elif draw < 0.3:
            name = "".join(chr(rng.randrange(0x6000, 0x6B00)) for _ in range(2))
            kind, ask, reply = "answer", f"{name}山：{ask}", f"{reply}共{number}公尺。"
        else:
            kind, (ask, reply) = "original", originals.pop()
        rows.append({"pair": (ask, reply), "kind": kind} | conversation(ask, reply, number))
    return rows


def conversation(ask: str, reply: str, number: int) -> dict:
    messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]
    return {"id": content_id(ask, reply, str(number), n=16), "messages": messages, "source": "rag", "score": -number}


def ours(rows: list[dict]) -> set[str]:
    return {item["id"] for item in near_duplicates(rows, THRESHOLD)[1]}


def by_rensa(rows: list[dict]) -> set[str]:
    from rensa import RMinHash, RMinHashLSH

    index, removed = RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=32), set()
    for number, (row, grams) in enumerate(zip(rows, grams_of(rows), strict=True)):
        sketch = RMinHash(num_perm=128, seed=42)
        sketch.update(sorted(grams))
        if index.query(sketch):
            removed.add(row["id"])
        else:
            index.insert(number, sketch)
    return removed


def by_datasketch(rows: list[dict]) -> set[str]:
    from datasketch import MinHash, MinHashLSH

    index, removed = MinHashLSH(threshold=THRESHOLD, num_perm=128), set()
    for row, grams in zip(rows, grams_of(rows), strict=True):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([gram.encode() for gram in grams])
        if index.query(sketch):
            removed.add(row["id"])
        else:
            index.insert(row["id"], sketch)
    return removed


def grams_of(rows: list[dict]) -> list[set[str]]:
    return [ngrams(fold("\n".join(turns(row, "user") + turns(row, "assistant"))), 5) for row in rows]


def timed(tool: Callable[[], object]) -> tuple[float, object]:
    begin = time.process_time()
    found = tool()
    return time.process_time() - begin, found


def f1(rows: list[dict], removed: set[str]) -> float:
    """Of removing the copies and nothing else."""
    copies = {row["id"] for row in rows if row["kind"] == "copy"}
    return 2 * len(copies & removed) / (len(copies) + len(removed))


def near(sizes: list[int]) -> list[Result]:
    results, growth = [], []
    peers = {"rensa": by_rensa, "datasketch": by_datasketch}
    for size in sizes:
        rows = near_rows(size)
        seconds, removed = timed(lambda rows=rows: ours(rows))
        growth.append({"rows": size, "s": seconds})
        results.append(Result(f"near duplicates, {size:,} rows, CPU", "s", [seconds], TARGETS.get(size), False))
        results.append(Result(f"near duplicates, {size:,} rows, F1", "", [f1(rows, removed)], 0.95))
        for name, tool in peers.items():
            if find_spec(name) and size <= 20_000:
                other, theirs = timed(lambda tool=tool, rows=rows: tool(rows))
                for result, value in zip(results[-2:], (other, f1(rows, theirs)), strict=True):
                    if result.peer:
                        result.note = f"{name} alone {value:.3g}"
                    else:
                        result.peer, result.peer_samples = f"{name} alone", [value]
    if len(sizes) > 1:
        results.append(Result("near duplicates, exponent of CPU time", "", [exponent(growth, "s")], 1.2, False))
    return results


def semantic(sizes: list[int]) -> list[Result]:
    results, growth = [], []
    for size in sizes:
        found = vectors(size)
        rows = [conversation("什麼？" + chr(0x6000 + at % 2000), "", at) | {"at": at} for at in range(size)]
        begin = time.perf_counter()
        seconds, (kept, _) = timed(lambda rows=rows, found=found: semantic_duplicates(rows, found, COSINE))
        wall, memory = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        growth.append({"rows": size, "s": seconds})
        name, (most_seconds, most_memory) = f"semantic duplicates, {size:,} × 256", MILLION.get(size, (None, None))
        note = f"{violations(found, [row['at'] for row in kept])} kept pairs at the threshold or above"
        results.append(Result(f"{name}, by the clock", "s", [wall], most_seconds, False))
        results.append(Result(f"{name}, peak memory with rows and vectors", "MB", [memory], most_memory, False))
        results.append(Result(f"{name}, CPU", "s", [seconds], None, False, note=note))
        if find_spec("semhash"):
            other, theirs = timed(lambda found=found: by_semhash(found))
            results[-1].peer, results[-1].peer_samples = "semhash", [other]
            results[-1].note += f"; semhash {violations(found, theirs)}"
    if len(sizes) > 1:
        results.append(Result("semantic duplicates, exponent of CPU time", "", [exponent(growth, "s")], None, False))
    return results


def by_semhash(found: np.ndarray) -> list[int]:
    from semhash import SemHash

    class Given:
        """An encoder that looks vectors up, so that only the search is measured."""

        def encode(self, inputs: list[str], **_: object) -> np.ndarray:
            return found[[int(text) for text in inputs]]

    search = SemHash.from_records([str(at) for at in range(len(found))], model=Given())
    return [int(text) for text in search.self_deduplicate(threshold=COSINE).selected]


def violations(found: np.ndarray, kept: list[int]) -> int:
    """Pairs of kept rows at the threshold or above, by all products; of a large table those of a sample of rows."""
    kept = np.array(kept)
    own = kept if len(kept) <= ROWS[-1] else np.random.default_rng(0).choice(kept, SAMPLE, replace=False)
    pairs = set[tuple[int, int]]()
    for start in range(0, len(kept), 1024):
        others = kept[start : start + 1024]
        left, right = np.nonzero(found[own] @ found[others].T >= COSINE + 1e-6)
        pairs |= {(min(a, b), max(a, b)) for a, b in zip(own[left], others[right], strict=True) if a != b}
    return len(pairs)


def main(words: list[str]) -> None:
    """Measure what is named, or everything at the usual sizes."""
    sizes = [int(word) for word in words if word.isdigit()] or list(ROWS)
    parts = [part for part in (near, semantic) if part.__name__ in words] or [near, semantic]
    results = [result for part in parts for result in part(sizes)]
    publish("-".join(["dedup", *words]), results, ("numpy", "rensa", "opencc"))


if __name__ == "__main__":
    main(sys.argv[1:])
