"""Training speed, use of the hardware and peak memory, each run in a process of its own; TRL's defaults beside it.

    make bench NAME=training        on a CPU: SFT and DPO of the smoke student, about a quarter of an hour
                                    on a GPU: SFT and DPO of the 270M model and of one shaped like Gemma-2-2b, and,
                                    where it is installed, LoRA by Unsloth beside LoRA by PEFT

Both sides train in the numbers that `choose_precision` finds; ours is timed with all that it does (for DPO the
reference and a last look at all pairs), theirs from the first step on. Weights of the 2.6 B model are random: speed and
memory do not depend on them. Model FLOP use is operations by `estimate.training_flop` ÷ seconds ÷ the peak.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from packing import CORPUS
from record import Result, publish

from kyara_utils.models import loading
from kyara_utils.models.bases import base_model_dir
from kyara_utils.models.gguf_import import gguf_to_transformers
from kyara_utils.models.gguf_trimming import trimmed_gemma
from kyara_utils.models.packages import gemma_gguf
from kyara_utils.models.precision import choose_precision
from kyara_utils.models.vocabulary_choice import kept_ids
from kyara_utils.training import dpo, estimate, memory, sft, stage
from kyara_utils.training.data import prepare_conversations
from kyara_utils.training.settings import DpoSettings, SftSettings
from kyara_utils.training.trl_internals import one_device

RUNS = {"cpu": 3, "cuda": 5}
ROWS = {"cpu": (60, 20), "cuda": (512, 128)}  # conversations and pairs
LENGTH = {"cpu": 384, "cuda": 2048}
COMMON = {"learning_rate": 1e-5, "epochs": 1, "gradient_accumulation": 1, "trainer": {"warmup_steps": 0.0}, "seed": 0}
GEMMA2_2B = {
    "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096, "vocab_size": 262_144,
}  # fmt: skip


def texts() -> list[str]:
    """The bundled corpus."""
    return [path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*/*.md"))]


def conversations(count: int) -> list[dict]:
    """Rows cut from the corpus, answers of log-normal length: median 150 characters."""
    draw, text = random.Random(0), "".join(texts())
    rows = []
    for number in range(count):
        start, length = draw.randrange(len(text) - 2000), max(8, round(draw.lognormvariate(5.0, 0.6)))
        turns = [("user", text[start : start + 20]), ("assistant", text[start + 20 :][:length])]
        rows.append({"id": f"r{number}", "messages": [{"role": role, "content": words} for role, words in turns]})
    return rows


def pairs(rows: list[dict]) -> list[dict]:
    """Preferences: the row's own answer over another row's."""
    sides = zip(rows, rows[1:] + rows[:1], strict=True)
    return [{"id": a["id"], "prompt": a["messages"][:1], "chosen": a["messages"][1:], "rejected": b["messages"][1:]}
            for a, b in sides]  # fmt: skip


def child(model: Path, kind: str, device: str, out: Path) -> dict:
    """Train once in this process; useful tokens, seconds, CPU seconds and peak memory."""
    tokenizer, length = loading.load_tokenizer(model), LENGTH[device]
    rows, _, counts = prepare_conversations(conversations(ROWS[device][0]), tokenizer, length)
    if kind.startswith("dpo"):
        rows, _, counts = dpo.prepare_pairs(pairs(rows[: ROWS[device][1]]), tokenizer, 2 * length)
    before = cpu_seconds()
    done = KINDS[kind](model, tokenizer, rows, length, out)
    found = {name: done[name] for name in ("seconds", "peak_gb")}
    return found | {"tokens": counts["tokens"], "cpu": cpu_seconds() - before}


def cpu_seconds() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def our_sft(model: Path, tokenizer, rows: list[dict], length: int, out: Path, **method: str) -> dict:
    """Ours: packed, with as many updates as TRL's batches of 8 make."""
    packs, updates = -(-sum(row["tokens"] for row in rows) // length), -(-len(rows) // 8)
    shape = {"batch_size": 1, "gradient_accumulation": max(1, -(-packs // updates)), "max_length": length}
    return sft.train_sft(model, rows, [], out, SftSettings(**COMMON | shape, **method), progress=False)


def our_dpo(model: Path, tokenizer, rows: list[dict], length: int, out: Path) -> dict:
    """Ours: the reference computed first."""
    settings = DpoSettings(**COMMON, beta=0.1, batch_size=2, max_length=2 * length)
    return dpo.train_dpo(model, rows, out, settings, progress=False)


def trl_sft(model: Path, tokenizer, rows: list[dict], length: int, out: Path) -> dict:
    """TRL as it comes: batches of 8, padded."""
    from trl import SFTConfig, SFTTrainer

    data = [{"messages": row["messages"]} for row in rows]
    return timed(SFTTrainer, SFTConfig, model, tokenizer, data, out, assistant_only_loss=True, max_length=length)


def trl_dpo(model: Path, tokenizer, rows: list[dict], length: int, out: Path) -> dict:
    """TRL as it comes but for our batch of 2: a second copy of the model is the reference."""
    from trl import DPOConfig, DPOTrainer

    data = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    more = {"max_length": 2 * length, "per_device_train_batch_size": 2}
    return timed(DPOTrainer, DPOConfig, model, tokenizer, data, out, **more)


def timed(trainer_class, config_class, model: Path, tokenizer, rows: list[dict], out: Path, **options) -> dict:
    """One epoch; other departures from the defaults are only the device and its numbers, as most CPUs emulate bf16."""
    from datasets import Dataset

    device, dtype, _ = choose_precision()
    arguments = config_class(
        output_dir=str(out), num_train_epochs=1, save_strategy="no", report_to="none", disable_tqdm=True,
        use_cpu=device == "cpu", bf16=dtype == "bfloat16", **options,
    )  # fmt: skip
    with stage.quiet():
        data = Dataset.from_list(rows)
        trainer = trainer_class(loading.load_model(model), args=one_device(arguments), train_dataset=data,
                                processing_class=tokenizer)  # fmt: skip
        started = time.perf_counter()
        trainer.train()
        return {"seconds": time.perf_counter() - started, "peak_gb": memory.used_memory(device)}


KINDS = {
    "sft": our_sft, "sft-trl": trl_sft, "dpo": our_dpo, "dpo-trl": trl_dpo,
    "sft-lora": partial(our_sft, method="lora"), "sft-unsloth": partial(our_sft, method="lora", backend="unsloth"),
}  # fmt: skip
PEERS = {"sft": "sft-trl", "dpo": "dpo-trl"}


def apart(model: Path, kind: str, device: str, out: Path) -> dict:
    """The same in a new process, so that peak memory is its own."""
    command = [sys.executable, __file__, "--child", str(model), kind, device, str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    print(f"{model.name} {kind}: {done.stdout.splitlines()[-1]}", flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def shaped_like_gemma2(folder: Path, tokenizer_of: Path) -> Path:
    """A folder with random weights in Gemma-2-2b's shape."""
    from transformers import AutoModelForCausalLM, Gemma2Config

    tokenizer = loading.load_tokenizer(tokenizer_of)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    loading.save_model(AutoModelForCausalLM.from_config(Gemma2Config(**GEMMA2_2B, **ids)), tokenizer, folder)
    return folder


def results_of(model: Path, device: str, folder: Path) -> list[Result]:
    """SFT and DPO against TRL's defaults, Unsloth against PEFT: tokens per second, CPU time, memory, FLOP use."""
    peers = PEERS | ({"sft-unsloth": "sft-lora"} if device == "cuda" and find_spec("unsloth") else {})
    runs: dict[str, list[dict]] = {kind: [] for kind in (*peers, *peers.values())}
    for run in range(RUNS[device]):
        for kind in runs:
            runs[kind].append(apart(model, kind, device, folder / f"{model.name}-{kind}-{run}"))
    found = [row for kind, peer in peers.items() for row in compared(model.name, kind, runs[kind], runs[peer], device)]
    _, peak, _ = estimate.machine_peak()
    each = estimate.training_flop(estimate.model_facts(model), 1, LENGTH[device])
    use = [100 * one["tokens"] / one["seconds"] * each / peak for one in runs["sft"]] if peak else []
    return [*found, *([Result(f"{model.name}: sft, model FLOP use", "%", use, None, True)] if use else [])]


def compared(name: str, kind: str, ours: list[dict], theirs: list[dict], device: str) -> list[Result]:
    """Three lines of one kind."""
    peer = "PEFT" if kind == "sft-unsloth" else "TRL's defaults"
    rates, other = ([one["tokens"] / one["seconds"] for one in runs] for runs in (ours, theirs))
    cpu, their_cpu = ([1000 * one["cpu"] / one["tokens"] for one in runs] for runs in (ours, theirs))
    peaks, their_peaks = ([one["peak_gb"] for one in runs] for runs in (ours, theirs))
    target = 6.0 if device == "cpu" else None
    return [
        Result(f"{name}: {kind}, useful tokens/s", "tokens/s", rates, None, True, peer, other),
        Result(f"{name}: {kind}, CPU per useful token", "ms", cpu, None, False, peer, their_cpu),
        Result(f"{name}: {kind}, peak memory", "GB", peaks, target, False, peer, their_peaks),
    ]


def main() -> None:
    """Choose the models by the device, measure, publish."""
    device = choose_precision()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if device == "cpu":
            models = [gguf_to_transformers(trimmed_gemma(kept_ids(gemma_gguf(), texts())), folder / "trimmed")]
        else:
            whole, _ = base_model_dir("gemma-3-270m", folder / "gemma-3-270m")
            models = [whole, shaped_like_gemma2(folder / "gemma-2-2b-shaped", whole)]
        publish(f"training-{device}", [r for m in models for r in results_of(m, device, folder)], ("torch", "trl"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        model_dir, what, where, target_dir = sys.argv[2:6]
        print(json.dumps(child(Path(model_dir), what, where, Path(target_dir))))
    else:
        main()
