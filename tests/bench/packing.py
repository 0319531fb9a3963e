"""Packing against TRL's default padding, and the trimmed vocabulary against the whole one, on this machine's CPU.

    make bench NAME=packing         about a quarter of an hour on two cores

Both sides are TRL's own trainer on the same rows, the same model and as many updates, in the numbers that training
chooses here and in fp32, alternating in one process; each is timed from first to last step of one epoch. Useful
tokens are those of rows, not of padding. Lengths are log-normal, as those of conversations are, cut from the bundled
corpus with a fixed seed.
"""

import os
import random
import resource
import tempfile
import time
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the targets are those of a CPU

from record import Result, publish  # noqa: E402

from kyara_utils.models import loading
from kyara_utils.models.bases import base_model_dir  # noqa: E402
from kyara_utils.models.gguf_import import gguf_to_transformers  # noqa: E402
from kyara_utils.models.gguf_trimming import trimmed_gemma  # noqa: E402
from kyara_utils.models.packages import gemma_gguf  # noqa: E402
from kyara_utils.models.precision import choose_precision  # noqa: E402
from kyara_utils.models.vocabulary_choice import kept_ids  # noqa: E402
from kyara_utils.training import fit, stage, trainer_run  # noqa: E402
from kyara_utils.training.data import prepare_conversations, training_row  # noqa: E402
from kyara_utils.training.settings import SftSettings  # noqa: E402
from kyara_utils.training.trainer_config import trainer_config  # noqa: E402

CORPUS = Path(__file__).resolve().parents[2] / "kyara_utils" / "data" / "corpus"
RUNS, ROWS, MAX_LENGTH, PADDED_BATCH, FEW = 5, 40, 384, 8, 12
SETTINGS = {"learning_rate": 1e-5, "epochs": 1, "seed": 0, "max_length": MAX_LENGTH}
PADDED = {"trainer": {"warmup_steps": 0.0, "packing": False}, "batch_size": PADDED_BATCH, "gradient_accumulation": 1}


def conversations(texts: list[str]) -> list[dict]:
    """Rows whose answers have log-normal lengths: median 55 characters, one in twenty beyond 280."""
    draw, text = random.Random(0), "".join(texts)
    rows = []
    for number in range(ROWS):
        length, start = min(340, max(4, round(draw.lognormvariate(4.0, 1.0)))), draw.randrange(len(text) - 1000)
        messages = [{"role": "user", "content": text[start : start + 8]}]
        rows.append(
            {"id": f"r{number:02}", "messages": [*messages, {"role": "assistant", "content": text[start:][:length]}]}
        )
    return rows


def one_epoch(model_dir: Path, rows: list[dict], shape: dict, folder: Path, dtype: str) -> dict[str, float]:
    """Wall and CPU seconds of one epoch, and the positions that the model computed."""
    model, tokenizer = loading.load_model(model_dir, device="cpu"), loading.load_tokenizer(model_dir)
    with stage.quiet():
        arguments = trainer_config(SftSettings(**SETTINGS | shape), folder, dtype)
        trainer = fit.sft_trainer(model, tokenizer, [training_row(tokenizer, row) for row in rows], arguments)
        slots = sum(batch["input_ids"].numel() for batch in trainer.get_train_dataloader())
        before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.perf_counter()
        trainer_run.run_trainer(trainer, "bench", progress=False)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "slots": slots, "updates": trainer.state.global_step}


def packed_shape(tokens: int) -> dict:
    """Packs one by one, with as many updates an epoch as the padded side makes."""
    updates = -(-ROWS // PADDED_BATCH)
    packs = -(-tokens // MAX_LENGTH)
    return {"trainer": {"warmup_steps": 0.0}, "batch_size": 1, "gradient_accumulation": max(1, -(-packs // updates))}


def packing(model_dir: Path, rows: list[dict], folder: Path, dtype: str) -> list[Result]:
    """Slot efficiency and useful tokens per second, packed and padded in turn."""
    tokens = sum(row["tokens"] for row in rows)
    found: dict[str, list[dict]] = {"packed": [], "padded": []}
    for run in range(RUNS):
        for name, shape in (("padded", PADDED), ("packed", packed_shape(tokens))):
            found[name].append(one_epoch(model_dir, rows, shape, folder, dtype))
        print(f"run {run + 1}: " + ", ".join(f"{n} {s[-1]['seconds']:.1f} s" for n, s in found.items()), flush=True)
    packed, padded = found["packed"], found["padded"]
    rates = [[tokens / run["seconds"] for run in side] for side in (packed, padded)]
    ratios = [one / other for one, other in zip(*rates, strict=True)]
    peer = f"TRL's default, padded batches of {PADDED_BATCH}"
    note = f"{ROWS} rows, {tokens} tokens, {packed[0]['updates']} against {padded[0]['updates']} updates"
    efficiency = [[tokens / run["slots"] for run in side] for side in (packed, padded)]
    cpu = [[1000 * run["cpu"] / tokens for run in side] for side in (packed, padded)]
    return [
        Result(f"slot efficiency, packed, {dtype}", "", efficiency[0], 0.95, True, peer, efficiency[1], note),
        Result(f"useful tokens/s, packed, {dtype}", "tokens/s", rates[0], None, True, peer, rates[1]),
        Result(f"packed ÷ padded, useful tokens/s, {dtype}", "×", ratios, 2.0, True),
        Result(f"CPU per useful token, packed, {dtype}", "ms", cpu[0], None, False, peer, cpu[1]),
    ]


def vocabulary(trimmed: Path, whole: Path, rows: list[dict], folder: Path, dtype: str) -> list[Result]:
    """Tokens per second of one epoch of a few packs, with 20,480 and with 262,144 tokens.

    The first update makes the optimizer's state, which takes as long as a pack: one step alone would measure that.
    """
    few = rows[:FEW]
    tokens = sum(row["tokens"] for row in few)
    shape = {"packing": True, "batch_size": 1, "gradient_accumulation": 1, "dtype": dtype}
    rates: dict[str, list[float]] = {"trimmed": [], "whole": []}
    for run in range(RUNS):
        for name, model_dir in (("whole", whole), ("trimmed", trimmed)):
            rates[name].append(tokens / one_epoch(model_dir, few, shape, folder)["seconds"])
        print(f"run {run + 1}: " + ", ".join(f"{n} {r[-1]:.1f} tokens/s" for n, r in rates.items()), flush=True)
    ratios = [one / other for one, other in zip(rates["trimmed"], rates["whole"], strict=True)]
    return [
        Result(
            f"tokens/s, 20,480 entries, {dtype}", "tokens/s", rates["trimmed"], None, True, "262,144", rates["whole"]
        ),
        Result(f"trimmed ÷ whole, tokens/s, {dtype}", "×", ratios, 4.0, True, note=f"{tokens} tokens, packed"),
    ]


def main() -> None:
    """Prepare both models, measure, publish."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*/*.md"))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trimmed = gguf_to_transformers(trimmed_gemma(kept_ids(gemma_gguf(), texts)), folder / "trimmed")
        whole, _ = base_model_dir("gemma-3-270m", folder / "whole")
        rows, rejects, _ = prepare_conversations(conversations(texts), loading.load_tokenizer(trimmed), MAX_LENGTH)
        assert not rejects, rejects
        results = []
        for dtype in sorted({"float32", choose_precision()[1]}):
            results += packing(trimmed, rows, folder / "out", dtype)
            results += vocabulary(trimmed, whole, rows, folder / "out", dtype)
    publish("packing", results, ("torch", "transformers", "trl"))


if __name__ == "__main__":
    main()
