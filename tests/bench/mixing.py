"""Whether 100,000 preference rows are mixed within two minutes and 1 GB: `python tests/bench/mixing.py [ROWS]`.

Three files in published layouts (UltraFeedback's, whole conversations, Step-DPO) of Chinese text from the bundled
corpus, some 1,000 characters a row, with planted repeats, benchmark items, unreadable rows and prompts of several
pairs, go through `read_open_preferences` and `mix_preferences` as step 06 calls them: read, cleaned, drawn, 2 % held
out, written. Each run is a process of its own, whose peak of resident memory the kernel keeps. The target of two
minutes is held against CPU time, since other work shares the cores.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from record import Result, publish

from kyara_utils.curation.decontamination import BenchmarkNgrams
from kyara_utils.evaluation.miniature.items import benchmark_texts
from kyara_utils.preference import mixing
from kyara_utils.preference.mixing import mix_preferences
from kyara_utils.preference.open_preferences import read_open_preferences
from kyara_utils.runs.tables import RowWriter

ROWS, RUNS = 100_000, 3
SECONDS, LIMIT = 120.0, 1024.0  # MB
CORPUS = Path(mixing.__file__).parents[1] / "data" / "corpus"
SETS = ("ultrafeedback-binarized-preferences", "distilabel-capybara-dpo-7k-binarized", "Math-Step-DPO-10K")
MIXTURE = {SETS[2]: "10%"}
TURN = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
SCHEMAS = (
    {"instruction": pa.string(), "chosen_response": pa.string(), "rejected_response": pa.string(),
     "chosen_avg_rating": pa.float64(), "rejected_avg_rating": pa.float64()},
    {"chosen": TURN, "rejected": TURN},
    dict.fromkeys(("prompt", "initial_reason_steps", "chosen", "rejected"), pa.string()),
)  # fmt: skip


def texts(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """(prompt, chosen, rejected) without end: one in ten repeats the last, one in ten shares its prompt."""
    whole = "".join(path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*/*.md"))).replace("\n", "")

    def text(length: int) -> str:
        starts = (rng.randrange(len(whole) - 25) for _ in range(length // 25 + 1))
        return "".join(whole[at : at + 25] for at in starts)[:length]

    items, last = list(benchmark_texts().values()), ("", "", "")
    while True:
        kind = rng.random()
        sides = [text(rng.randrange(100, 800)) for _ in range(2)]
        if kind < 0.05 and last[0]:
            last = (last[0], last[1][:50] + text(3) + last[1][53:], last[2])
        elif kind < 0.1 and last[0]:
            pass
        elif kind < 0.2 and last[0]:
            last = (last[0], *sides)
        else:
            last = (text(rng.randrange(20, 160)) + (rng.choice(items) if kind > 0.99 else "？"), *sides)
        yield last


def rows_of(kind: int, count: int) -> Iterator[dict]:
    rng = random.Random(kind)
    for number, (ask, good, bad) in zip(range(count), texts(rng), strict=False):
        bad = good if number % 97 == 0 else bad
        if kind == 0:
            ratings = {"chosen_avg_rating": 4.0, "rejected_avg_rating": 4.0 if number % 29 == 0 else 2.5}
            yield {"instruction": ask, "chosen_response": good, "rejected_response": bad} | ratings
        elif kind == 1:
            talk = [{"role": "user", "content": ask[:40]}, {"role": "assistant", "content": bad[:100]}]
            talk += [{"role": "user", "content": ask}]
            sides = ([*talk, {"role": "assistant", "content": text}] for text in (good, bad))
            yield dict(zip(("chosen", "rejected"), sides, strict=True))
        else:
            yield {"prompt": ask, "initial_reason_steps": bad[:150], "chosen": good[:120], "rejected": bad[150:270]}


def write_input(folder: Path, count: int) -> None:
    for kind, (name, share) in enumerate(zip(SETS, (0.6, 0.25, 0.15), strict=True)):
        (folder / name).mkdir()
        with RowWriter(folder / name / "train.parquet", pa.schema(SCHEMAS[kind])) as out:
            out.extend(rows_of(kind, round(share * count)))


def mixed(folder: Path) -> dict[str, float]:
    """One run: seconds, CPU seconds, peak MB, and the counts."""
    ngrams = BenchmarkNgrams(benchmark_texts().items())
    begin, cpu = time.perf_counter(), time.process_time()
    reads = read_open_preferences([f"{name}={name}" for name in SETS], folder)
    result = mix_preferences(reads, folder, ngrams, mixture=MIXTURE, held_out_share=0.02)
    seconds, used = time.perf_counter() - begin, time.process_time() - cpu
    result.check()
    rules = Counter()
    for entry in result.funnel.rules():
        rules[entry["rule"]] += entry["rows"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"s": seconds, "cpu": used, "mb": peak, "rows": result.incoming, "out": result.out, "rules": rules}


def child(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        write_input(Path(name), count)
        done = subprocess.run([sys.executable, __file__, "--measure", name], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found), flush=True)
    return found


def results(count: int, runs: list[dict]) -> list[Result]:
    rules = ", ".join(f"{rule} {number:,}" for rule, number in sorted(runs[0]["rules"].items()))
    note = f"{runs[0]['out']:,} rows written; rejects: {rules}"
    what = f"mixing {count:,} preference rows"
    return [
        Result(f"{what}, wall time", "s", [run["s"] for run in runs], None, False, note="other work on the cores"),
        Result(f"{what}, CPU time", "s", [run["cpu"] for run in runs], SECONDS, False, note=note),
        Result(f"{what}, peak memory", "MB", [run["mb"] for run in runs], LIMIT, False),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(mixed(Path(sys.argv[2]))))
    else:
        count = int(sys.argv[1]) if sys.argv[1:] else ROWS
        publish("mixing", results(count, [child(count) for _ in range(RUNS)]), ("numpy", "opencc", "pyarrow"))
