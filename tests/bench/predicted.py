"""The model on paper of docs/scale.md: what was measured, carried to the size of Kyara's card and to n workers.

    python tests/bench/predicted.py --write                        renews the tables of docs/scale.md
    python tests/bench/predicted.py --check 50000 100000 200000    step 04 at the last size against the sizes before

A line is c · size^exponent, and the part of it that workers share is divided by their number. Where no growth was
measured it is taken as linear, and the line says so. Measured values come from results/*.json and docs/log.md.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

from record import RESULTS, Result, publish

from kyara_utils.llm.plan import Planned, model_of, planned_calls
from kyara_utils.runs import steps
from kyara_utils.training.estimate import HARDWARE, SHAPES, UTILISATION, training_flop

ROOT = Path(__file__).resolve().parents[2]
PAGE, RECIPE, CALLING = ROOT / "docs" / "scale.md", "gemma-2-2b", ("02", "03", "04")
ROWS, TOKENS, PAIRS = 3.6e6, 4.5e9, 90_000  # the card's; pairs as its recipe forms them: 60,000 and 30,000 of SPIN
TEXT_MB, CHUNKS = 1006, 1_977_591  # the largest corpus measured; a larger one is taken as linear
KEPT = {("02", "conversations"): 850_000, ("03", "conversations"): 30_000, ("02", "rounds"): 3}  # asked for
WORKERS = (1, 8, 64)
BYTES_PER_TOKEN = 3  # one Chinese character in UTF-8
READ, WRITTEN = 20_000.0, 2_500.0  # tokens a second of one GPU that serves many requests: assumed, nothing measured
LENGTH = 4096  # tokens of a training row


@dataclass(frozen=True)
class Line:
    """Seconds of one part at the card's size: `shared` is divided among workers, `alone` is not."""

    part: str
    base: str
    shared: float = 0.0
    alone: float = 0.0

    def seconds(self, workers: int) -> float:
        """By the clock, on cores (or GPUs) that do nothing else, with no loss from sharing."""
        return self.alone + self.shared / workers


def kept(bench: str, metric: str) -> dict:
    """The row of results/BENCH.json whose metric begins so."""
    rows = json.loads((RESULTS / f"{bench}.json").read_text(encoding="utf-8"))
    return next(row for row in rows if row["metric"].startswith(metric))


def measured(bench: str, metric: str) -> float:
    return kept(bench, metric)["value"]


def grown(value: float, size: float, target: float, exponent: float = 1.0) -> float:
    """What was `value` at `size`, at `target`."""
    return value * (target / size) ** exponent


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent between the first and the last of some measurements (size, value)."""
    (small, less), (large, more) = points[0], points[-1]
    return log(more / less) / log(large / small)


def error(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(prediction, its error as a share) of the last measurement from those before it."""
    *known, (size, value) = points
    found = grown(known[-1][1], known[-1][0], size, slope(known))
    return found, found / value - 1


def calls() -> list[Planned]:
    """What steps 02 to 04 of the recipe ask at most; the table behind `run gemma-2-2b --dry-run`."""
    found, chain = [], steps.load_steps(ROOT)
    for name in (name for name in chain if name[:2] in CALLING):
        values = steps.resolved(ROOT, RECIPE, name, {})
        found += planned_calls(list(chain[name].calls), values, lambda step, rows: KEPT.get((step, rows)))
    return found


def asked() -> dict[str, float]:
    """Calls, prompt and completion tokens, USD and calls a minute of all that is asked."""
    planned = calls()
    (name,) = {item.model for item in planned}
    model = model_of(name)
    prompt = sum(item.calls * item.prompt_tokens for item in planned)
    completion = sum(item.calls * item.completion_tokens for item in planned)
    usd = model.cost(prompt, completion)
    number = sum(item.calls for item in planned)
    return {"calls": number, "prompt": prompt, "completion": completion, "usd": usd, "rpm": model.rpm}


def times() -> list[Line]:
    """Every part whose time was measured, and two that rest on an assumption and say so."""
    need = asked()
    free, real = (measured("chunking", f"cutting, {name}") for name in ("a counter", "multilingual"))
    curation = kept("scale_curation", "04, CPU time")["value"]
    growth = measured("scale_curation", "04, exponent of CPU")
    flop = training_flop(SHAPES["google/gemma-2-2b-it"], TOKENS, LENGTH)
    h100 = HARDWARE["H100"][0] * 1e12 * UTILISATION
    return [
        Line(
            "01 read, cut, compare: 1 GB of text",
            f"log: 350 CPU s with a counter that costs nothing; chunking: {real:g} MB/s of cutting with e5's tokenizer",
            TEXT_MB / real, 350 - TEXT_MB / free,
        ),
        Line(
            "01 index of its 2 million chunks, in process", "index: 1,800 points/s at 100,000 × 384; taken as linear",
            alone=CHUNKS / measured("index", "build with graph"),
        ),
        Line(
            "02–04 calls, CPU of the clients", "engine: 0.3166 ms a call",
            need["calls"] * measured("engine", "CPU per durable call") / 1000,
        ),
        Line(
            "02–04 calls, GPUs that answer", f"**assumed**: {READ:,.0f} tokens/s read, {WRITTEN:,.0f} written",
            need["prompt"] / READ + need["completion"] / WRITTEN,
        ),
        Line(
            "04 without models, 3.6 million rows", f"scale_curation: {curation:g} s at 100,000 rows, n^{growth:g}",
            alone=grown(curation, 1e5, ROWS, growth),
        ),
        Line(
            "06 mixing, 90,000 pairs", "mixing: 80.85 s at 100,000; taken as linear",
            alone=grown(measured("mixing", "mixing 100,000 preference rows, CPU"), 1e5, PAIRS),
        ),
        Line(
            "05 training, 4.5 billion tokens, GPUs", f"**assumed**: {UTILISATION:.0%} of an H100's peak", flop / h100,
        ),
    ]  # fmt: skip


def spaces() -> list[tuple[str, float, str]]:
    """(what, bytes, base) of memory and disk."""
    need, curation = asked(), measured("scale_curation", "04, peak memory") * 2**20
    row = measured("scale_curation", "04, memory for each more row") * 1024
    mixing = measured("mixing", "mixing 100,000 preference rows, peak") * 2**20
    longer = (TOKENS / ROWS - 220) * BYTES_PER_TOKEN  # the rows measured have some 220 characters
    return [
        ("memory, 01 until 2 million chunks are written", 1289 * 2**20, "log: 1 GB of text"),
        ("memory, 01 index in process, 100,000 chunks", measured("index", "peak memory") * 1e9, "index"),
        ("memory, 04, 3.6 million rows of 220 characters", curation + row * (ROWS - 1e5), "scale_curation; linear"),
        ("memory, 04, the card's rows of 1,250 tokens", curation + (row + longer) * ROWS, "the same and their text"),
        ("memory, 06 mixing of 100,000 pairs", mixing, "mixing"),
        ("disk, vectors of 2 million chunks × 384", CHUNKS * 384 * 4, "float32"),
        ("disk, ledger of all calls", (need["prompt"] + need["completion"]) * BYTES_PER_TOKEN, "3 bytes a token"),
        ("disk, 3.6 million conversations, not compressed", TOKENS * BYTES_PER_TOKEN, "3 bytes a token"),
    ]  # fmt: skip


def errors() -> list[tuple[str, list[tuple[float, float]]]]:
    """Series of (size, value) whose last is predicted from those before."""
    sizes = (5_000, 20_000, 50_000)
    near = [(n, measured("dedup", f"near duplicates, {n:,} rows, CPU")) for n in sizes]
    semantic = [(n, measured("dedup", f"semantic duplicates, {n:,} × 256, CPU")) for n in sizes]
    found = [("near duplicates, CPU s", near), ("semantic duplicates, CPU s", semantic)]
    if (RESULTS / "predicted.json").is_file():
        rows = json.loads((RESULTS / "predicted.json").read_text(encoding="utf-8"))
        names = dict.fromkeys(row["metric"].rpartition(", ")[0] for row in rows)
        found += [(name, [_point(row) for row in rows if row["metric"].rpartition(", ")[0] == name]) for name in names]
    return found


def _point(row: dict) -> tuple[float, float]:
    return float(row["note"].split()[0]), row["value"]


def tables() -> str:
    """The Markdown between the marks of docs/scale.md."""
    head = " | ".join(f"{n} worker{'s' * (n > 1)}" for n in WORKERS)
    text = f"| part | {head} | base |\n|---|{'---|' * len(WORKERS)}---|\n"
    for line in times():
        cells = " | ".join(clock(line.seconds(n)) for n in WORKERS)
        text += f"| {line.part} | {cells} | {line.base} |\n"
    text += "\n| space | GB | base |\n|---|---|---|\n"
    text += "".join(f"| {what} | {size / 1e9:,.1f} | {base} |\n" for what, size, base in spaces())
    text += "\n| tokens and money | at most | base |\n|---|---|---|\n"
    text += "".join(f"| {what} | {value} | {base} |\n" for what, value, base in bill())
    text += "\n| from smaller sizes | sizes | last, predicted | measured | error |\n|---|---|---|---|---|\n"
    for what, points in errors():
        found, share = error(points)
        sizes = ", ".join(f"{size:,.0f}" for size, _ in points)
        text += f"| {what} | {sizes} | {found:.3g} | {points[-1][1]:.3g} | {100 * share:+.0f} % |\n"
    return text


def bill() -> list[tuple[str, str, str]]:
    """(what, value, base) of calls, tokens and money."""
    need, train = asked(), times()[-1].seconds(1) / 3600
    minutes = f"{need['calls'] / need['rpm'] / 1440:,.0f} days at {need['rpm']:,.0f} calls a minute"
    return [
        ("calls of 02 to 04", f"{need['calls'] / 1e6:,.1f} million; {minutes}", f"`run {RECIPE} --dry-run`"),
        ("tokens read", f"{need['prompt'] / 1e9:,.1f} billion", "the same"),
        ("tokens written", f"{need['completion'] / 1e9:,.1f} billion", "the same"),
        ("money for calls", f"{need['usd']:,.0f} USD", "prices of params/models.yaml"),
        ("money for training", f"{train * HARDWARE['H100'][1]:,.0f} USD", "**assumed** rent of estimate.py"),
    ]  # fmt: skip


def clock(seconds: float) -> str:
    """Days, hours or minutes, two digits."""
    for size, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{0 if seconds >= 20 * size else 1}f} {name}"
    return f"{seconds:.0f} s"


def check(sizes: Iterable[int]) -> None:
    """Measure step 04 at these sizes and keep the series."""
    from scale_curation import child

    rows = [child(size) for size in sizes]
    found = []
    for what, name, unit in (("04 without models, CPU s", "total_s", "s"), ("04 without models, MB", "write_mb", "MB")):
        found += [Result(f"{what}, {r['rows']:,.0f} rows", unit, [r[name]], note=f"{r['rows']} rows") for r in rows]
    publish("predicted", found, ("numpy", "opencc", "pyarrow"))


def written(page: str) -> str:
    """The page with its tables renewed."""
    begin, end = "<!-- tests/bench/predicted.py -->\n", "<!-- end -->"
    before, rest = page.split(begin)
    return before + begin + tables() + rest[rest.index(end) :]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(int(size) for size in sys.argv[2:])
    elif sys.argv[1:] == ["--write"]:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(tables(), end="")
