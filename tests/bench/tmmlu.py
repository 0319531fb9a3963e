"""TMMLU on the embedded Gemma 3 270M: our log-likelihoods against lm-evaluation-harness, then all 3,343 questions.

Both engines get the same fp32 weights, tokenizer, prompts and items, in alternating rounds of one process, so the
ratio is a property of the engines. The questions are read from `../shared/ground_truth/tmmlu` or `--data`.

    python tests/bench/tmmlu.py            about a quarter of an hour on two cores
    python tests/bench/tmmlu.py --limit 60 --rounds 1
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from record import Result, line, publish  # noqa: E402

from kyara_utils.evaluation.backends.backend import TransformersBackend  # noqa: E402
from kyara_utils.evaluation.backends.letters import calibrated, exam_prompt  # noqa: E402
from kyara_utils.evaluation.benchmark import Source  # noqa: E402
from kyara_utils.evaluation.registry import get  # noqa: E402
from kyara_utils.evaluation.scoring import LETTERS  # noqa: E402
from kyara_utils.evaluation.summary import summarise_choice  # noqa: E402
from kyara_utils.models.gguf_import import gguf_to_transformers  # noqa: E402
from kyara_utils.models.packages import gemma_gguf  # noqa: E402
from kyara_utils.runs.errors import KyaraError  # noqa: E402

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "ground_truth"
PEER, PEER_BATCH = "lm-evaluation-harness HFLM", 8
SLICE = 200


def ours(backend: TransformersBackend, items: list[dict]) -> list[list[float]]:
    """Log-probabilities of A–D per item."""
    return [[row["logprobs"][letter] for letter in LETTERS] for row in backend.choose(items)]


def theirs(lm, items: list[dict]) -> list[list[float]]:
    """The same through the harness's own model class, which also shares one forward pass between single tokens."""
    from lm_eval.api.instance import Instance

    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=(exam_prompt(item), letter), idx=0)
        for item in items
        for letter in LETTERS
    ]
    values = [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]
    return [values[i : i + len(LETTERS)] for i in range(0, len(values), len(LETTERS))]


def timed(work: Callable, model, items: list[dict]) -> tuple[list[list[float]], float, float]:
    """Return the answers, items per second and CPU seconds per item."""
    clock, cpu = time.perf_counter(), time.process_time()
    found = work(model, items)
    return found, len(items) / (time.perf_counter() - clock), (time.process_time() - cpu) / len(items)


def compare(backend: TransformersBackend, lm, items: list[dict], rounds: int, size: int) -> list[Result]:
    """Alternate the engines over `rounds` samples of `size` items; who begins alternates too."""
    draw, engines = random.Random(0), [(ours, backend), (theirs, lm)]
    speed: dict = {ours: [], theirs: []}
    cpu: dict = {ours: [], theirs: []}
    apart, same, total = 0.0, 0, 0
    for work, model in engines:  # the weights' first touch is nobody's speed
        work(model, items[:2])
    for number in range(rounds):
        sample, answers = draw.sample(items, min(size, len(items))), {}
        for work, model in engines if number % 2 else engines[::-1]:
            answers[work], rate, seconds = timed(work, model, sample)
            speed[work].append(rate)
            cpu[work].append(seconds)
        for mine, other in zip(answers[ours], answers[theirs], strict=True):
            apart = max(apart, *(abs(a - b) for a, b in zip(mine, other, strict=True)))
            same, total = same + (mine.index(max(mine)) == other.index(max(other))), total + 1
        print(f"round {number + 1}: {speed[ours][-1]:.2f} against {speed[theirs][-1]:.2f} items/s, {same}/{total} same")
    ratios = [a / b for a, b in zip(speed[ours], speed[theirs], strict=True)]
    return [
        Result("TMMLU items/s", "items/s", speed[ours], peer=PEER, peer_samples=speed[theirs],
               note=f"{size} items a round, peer's batch size {PEER_BATCH}"),
        Result("TMMLU speed against the harness, round by round", "×", ratios, target=2.0),
        Result("TMMLU CPU seconds per item", "CPU-s", cpu[ours], higher_is_better=False, peer=PEER,
               peer_samples=cpu[theirs]),
        Result("TMMLU answers identical to the harness", "share", [same / total], target=1.0,
               note=f"{total} items; largest log-probability difference {apart:.1e} nats"),
    ]  # fmt: skip


def full_run(backend: TransformersBackend, items: list[dict]) -> list[Result]:
    """Score every question: macro average over subjects with its interval, as it comes and calibrated."""
    rows, clock = [], time.perf_counter()
    by_length = sorted(items, key=lambda item: len(exam_prompt(item)))
    for start in range(0, len(by_length), SLICE):
        rows += backend.choose(by_length[start : start + SLICE])
        print(
            f"{len(rows)}/{len(items)} questions, {len(rows) / (time.perf_counter() - clock):.2f} a second", flush=True
        )
    rate = len(rows) / (time.perf_counter() - clock)
    found = [Result("TMMLU items/s, all questions", "items/s", [rate], note="llama.cpp: 2.65 on two cores")]
    return found + [
        macro(name, kept) for name, kept in (("as it comes", rows), ("calibrated", calibrated(by_length, rows)))
    ]


def macro(name: str, rows: list[dict]) -> Result:
    """The macro average of one way of scoring, in per cent, with what stands behind it."""
    marked = [row | {"benchmark": "tmmlu", "model": "gemma3-270m"} for row in rows]
    score = next(one for one in summarise_choice(marked) if one["metric"] == "macro")
    letters = statistics.mode(row["chosen"] for row in rows)
    often = sum(row["chosen"] == letters for row in rows)
    return Result(
        f"TMMLU macro average, {name}", "%", [100 * score["value"]],
        note=f"95 % {100 * score['low']:.2f}–{100 * score['high']:.2f}, n {score['n']}, unscored {score['unscored']}, "
        f"{len({row['subject'] for row in rows})} subjects, {letters} chosen {often} times",
    )  # fmt: skip


def main() -> None:
    """Run both parts and write results/tmmlu.json (a partial run only prints)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(DATA), help="folder that holds tmmlu/questions.jsonl.gz")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=24, help="items a round")
    parser.add_argument("--limit", type=int, default=0, help="questions of the last part; 0 takes all")
    options = parser.parse_args()
    try:
        items = get("tmmlu").load(Source(options.data)).items
    except KyaraError as error:
        raise SystemExit(f"not run: {error}") from error
    from lm_eval.models.huggingface import HFLM

    with tempfile.TemporaryDirectory() as folder:
        backend = TransformersBackend(gguf_to_transformers(gemma_gguf(), Path(folder) / "gemma"))
    lm = HFLM(pretrained=backend.model, tokenizer=backend.tokenizer, batch_size=PEER_BATCH)
    results = compare(backend, lm, items, options.rounds, options.sample)
    chosen = random.Random(0).sample(items, options.limit) if options.limit else items
    results += full_run(backend, chosen)
    if options.limit or options.rounds < 5:
        print(*(line(result.row(())) for result in results), sep="\n")
    else:
        publish("tmmlu", results, ("torch", "transformers", "lm_eval"))


if __name__ == "__main__":
    main()
