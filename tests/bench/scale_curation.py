"""Whether memory and time of step 04 grow with its rows as they should: its own path at 10,000 to 100,000 rows.

`python tests/bench/scale_curation.py [ROWS …]`. Generated conversations (own text, one template family in four, one
edited copy in twenty, some rows of a weak teacher) go through the functions that the notebook calls, from table to
tables. The embedder is a table of vectors around topics, the tags and scores are drawn, because a model would take
weeks; everything else is measured. Each size runs in a process of its own, whose peak of resident memory the kernel
keeps. The growth is fitted as c · n^exponent, for the whole path and for each part.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from record import Result, publish

from kyara_utils.curation import filters, selection
from kyara_utils.curation.decontamination import BenchmarkNgrams, contaminated
from kyara_utils.curation.duplicates import exact_duplicates, near_duplicates
from kyara_utils.curation.language import by_language
from kyara_utils.curation.quality_rules import by_quality
from kyara_utils.curation.semantic_duplicates import nearest_similarities, semantic_duplicates
from kyara_utils.evaluation.miniature.items import benchmark_texts
from kyara_utils.runs import iter_rows, schemas
from kyara_utils.runs.stored_rows import having, stored
from kyara_utils.runs.tables import RowWriter, content_id, write_rows

ROWS = (10_000, 20_000, 50_000, 100_000)
LIMIT = 4096.0  # MB
DIMENSIONS = 256
CORPUS = Path(filters.__file__).parents[1] / "data" / "corpus"
PARTS = ("read", "language", "quality", "exact", "near", "picture", "semantic", "contamination", "select", "write")


def conversations(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(question, answer) of some 20 and 200 characters."""
    whole = "".join(path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*/*.md"))).replace("\n", "")
    rng, recent = random.Random(seed), []

    def text(length: int) -> str:
        starts = (rng.randrange(len(whole) - 25) for _ in range(length // 25 + 1))
        return "".join(whole[at : at + 25] for at in starts)[:length]

    families = [(text(12), text(70), text(70)) for _ in range(200)]
    for number in range(count):
        kind = rng.random()
        if kind < 0.25:
            ask, left, right = rng.choice(families)
            pair = (
                f"{ask}第{number % 5000}屆{text(3)}？",
                f"{left}{text(6)}{right}{text(40)}共{rng.randrange(9999)}人。",
            )
        elif kind < 0.3 and recent:
            ask, reply = rng.choice(recent)
            at = rng.randrange(max(1, len(reply) - 3))
            pair = ask, reply[:at] + text(3) + reply[at + 3 :]
        elif kind < 0.33:
            pair = text(20) + "？", rng.choice(("很抱歉，我無法回答這個問題。", "是的。", text(150) + "，"))
        else:
            pair = text(20) + "？", text(200) + "。"
        recent = [*recent[-500:], pair]
        yield pair


def write_input(path: Path, count: int) -> None:
    """The conversations as steps 02 and 03 write them."""
    with RowWriter(path, schemas.CONVERSATION) as out:
        for number, (ask, reply) in enumerate(conversations(count)):
            messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]
            source = "math" if number % 8 == 0 else "rag"
            key = content_id(ask, reply, str(number), prefix="conv_", n=16)
            ids = {"parents": [f"id_{number % 9999:08x}"], "call_ids": [key[5:] * 2]}
            out.add({"id": key, "messages": messages, "lang": "zh-Hant", "source": source, "meta": "{}"} | ids)


def vectors(count: int) -> np.ndarray:
    """Unit vectors around topics, with the decay of a sentence encoder's spectrum; one in twenty lies near another."""
    rng = np.random.default_rng(0)
    spectrum = (1.0 / np.sqrt(1 + np.arange(DIMENSIONS))).astype(np.float32)
    topics = rng.standard_normal((max(8, count // 200), DIMENSIONS), np.float32)
    found = topics[rng.integers(0, len(topics), count)]
    for start in range(0, count, 1 << 16):  # the same numbers as at once
        part = found[start : start + (1 << 16)]
        part += rng.standard_normal(part.shape, np.float32)
    found *= spectrum
    copies = rng.choice(count, count // 20, replace=False)
    found[copies] = found[rng.integers(0, count, len(copies))]
    found[copies] += 0.05 * spectrum * rng.standard_normal((len(copies), DIMENSIONS), np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def tagged(rows: Sequence[dict]) -> Sequence[dict]:
    """Rows with drawn tags and scores, where the notebook asks a model."""
    rng = random.Random(0)
    names = [f"tag {number}" for number in range(2000)]
    tags, scores = [], []
    for _ in range(len(rows)):
        tags.append([names[int(2000 * rng.random() ** 3)] for _ in range(rng.randrange(1, 4))])
        scores.append(rng.gauss(0, 2))
    return having(rows, tags=tags, score=scores)


def curating(folder: Path) -> dict[str, float]:
    """Step 04 on `folder`/rows.parquet as its notebook goes: {rows, CPU seconds of each part, peak MB after each}."""
    found: dict[str, float] = {}

    def timed(name: str, part: Callable[[], object]) -> object:
        begin = time.process_time()
        result = part()
        found[f"{name}_s"] = time.process_time() - begin
        found[f"{name}_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({name: found[f"{name}_s"], "mb": found[f"{name}_mb"]}), file=sys.stderr, flush=True)
        return result

    work = timed("read", lambda: filters.Filters(stored(iter_rows(folder / "rows.parquet"), schemas.CONVERSATION)))
    timed("language", lambda: work.apply("language", by_language))
    timed("quality", lambda: work.apply("quality", by_quality))
    timed("exact", lambda: work.apply("exact", exact_duplicates))
    timed("near", lambda: work.apply("near", near_duplicates))
    places = vectors(len(work.rows))
    timed("picture", lambda: nearest_similarities(places))
    timed("semantic", lambda: work.apply("semantic", lambda rows: semantic_duplicates(rows, places, 0.95)))
    ngrams = BenchmarkNgrams(benchmark_texts().items())
    timed("contamination", lambda: work.apply("contamination", lambda rows: contaminated(rows, ngrams)))
    rows = tagged(work.rows)
    rows = timed("select", lambda: selected(rows))
    refined = selection.refined_set(rows)
    timed("write", lambda: write_all(folder, rows, refined, work.rejects))
    work.check()
    assert len(refined) == round(0.14 * len(rows))
    return found | {"rows": work.incoming, "kept": len(rows)}


def selected(rows: Sequence[dict]) -> Sequence[dict]:
    """The refined set by score, after the way that takes longest, InsTag's; a token for each character."""
    counted = selection.with_tokens(rows, len)
    selection.choose(counted, "instag", 0.14)
    return selection.choose(counted, "score", 0.14)


def write_all(folder: Path, rows: Sequence[dict], refined: Sequence[dict], rejects: list[dict]) -> None:
    write_rows(folder / "base.parquet", rows, filters.CURATED)
    write_rows(folder / "refined.parquet", refined, filters.CURATED)
    write_rows(folder / "rejects.parquet", rejects, schemas.REJECT)


def child(count: int) -> dict[str, float]:
    """Generate the rows and curate them in a process of its own, on one core."""
    with tempfile.TemporaryDirectory() as name:
        write_input(Path(name) / "rows.parquet", count)
        command = [sys.executable, __file__, "--measure", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    found["total_s"] = sum(found[f"{part}_s"] for part in PARTS)
    print(json.dumps({key: round(value, 2) for key, value in found.items()}), flush=True)
    return found


def exponent(growth: list[dict[str, float]], value: str) -> float:
    """The slope of log value over log rows, by least squares."""
    x, y = (np.log([max(row[name], 1e-3) for row in growth]) for name in ("rows", value))
    return float(np.polyfit(x, y, 1)[0])


def main(sizes: list[int]) -> None:
    growth = [child(count) for count in sizes]
    first, last = growth[0], growth[-1]
    span = f"{sizes[0]:,} to {sizes[-1]:,} rows"
    parts = ", ".join(f"{part} {exponent(growth, f'{part}_s'):.2f}" for part in PARTS)
    above = 1024 * (last["write_mb"] - first["write_mb"]) / max(1, sizes[-1] - sizes[0])
    results = [
        Result(f"04, exponent of CPU time, {span}", "", [exponent(growth, "total_s")], 1.2, False, note=parts),
        Result(f"04, CPU time of the whole path, {sizes[-1]:,} rows", "s", [last["total_s"]], None, False,
               note=", ".join(f"{part} {last[f'{part}_s']:.1f}" for part in PARTS)),
        Result(f"04, peak memory, {sizes[-1]:,} rows", "MB", [last["write_mb"]], LIMIT, False,
               note=f"{last['kept']:,} rows kept; tags, scores and vectors drawn; one run"),
        Result("04, memory for each more row", "kB", [above], None, False),
    ]  # fmt: skip
    publish("scale_curation", results, ("numpy", "opencc", "pyarrow"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(curating(Path(sys.argv[2]))))
    else:
        main([int(size) for size in sys.argv[1:]] or list(ROWS))
