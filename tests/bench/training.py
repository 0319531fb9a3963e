"""Training speed, use of the hardware and peak memory, each run in a process of its own; TRL's defaults beside it.

    make bench NAME=training        on a CPU: two stages of SFT and DPO of the smoke student, about ten minutes
                                    on a GPU: SFT and DPO of the 270M model and of one shaped like Gemma-2-2b

Weights of the 2.6 B model are random: speed and memory do not depend on them. Model FLOP use is operations by
`estimate.training_flop` ÷ seconds ÷ the peak of the device.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from packing import CORPUS
from record import Result, publish

from kyara_utils.llm.packages import gemma_gguf
from kyara_utils.llm.vocabulary import kept_ids, trimmed_gemma
from kyara_utils.training import dpo, estimate, memory, sft, stage
from kyara_utils.training.bases import base_model_dir
from kyara_utils.training.checkpoints import gguf_to_transformers
from kyara_utils.training.data import prepare_conversations
from kyara_utils.training.precision import choose_precision

RUNS = {"cpu": 1, "cuda": 5}
ROWS = {"cpu": (60, 20), "cuda": (512, 128)}  # conversations and pairs
LENGTH = {"cpu": 384, "cuda": 2048}
COMMON = {"learning_rate": 1e-5, "epochs": 1, "gradient_accumulation": 1, "warmup_ratio": 0.0, "seed": 0}
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
    """Train once in this process; seconds, useful tokens and memory."""
    tokenizer, length = stage.load_tokenizer(model), LENGTH[device]
    rows, _, counts = prepare_conversations(conversations(ROWS[device][0]), tokenizer, length)
    if kind == "trl":
        return {"tokens": counts["tokens"], **trl_defaults(model, tokenizer, rows, length, out)}
    if kind == "sft":
        done = sft.train_sft(model, rows, [], out, **COMMON, max_length=length, batch_size=1, progress=False)
        return {"tokens": counts["tokens"], "seconds": done["seconds"], "peak_gb": done["peak_gb"]}
    chosen = pairs(rows[: ROWS[device][1]])
    _, _, counts = dpo.prepare_pairs(chosen, tokenizer, 2 * length)
    settings = COMMON | {"beta": 0.1, "batch_size": 2, "max_length": 2 * length}
    done = dpo.train_dpo(model, chosen, out, **settings, progress=False)
    return {"tokens": counts["tokens"], "seconds": done["seconds"], "peak_gb": done["peak_gb"]}


def trl_defaults(model: Path, tokenizer, rows: list[dict], length: int, out: Path) -> dict:
    """TRL as it comes, but for the length and, on a CPU, for its bf16, which most CPUs emulate."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    device, dtype, _ = choose_precision()
    arguments = SFTConfig(
        output_dir=str(out), max_length=length, num_train_epochs=1, save_strategy="no", report_to="none",
        disable_tqdm=True, assistant_only_loss=True, use_cpu=device == "cpu", bf16=dtype == "bfloat16",
    )  # fmt: skip
    data = Dataset.from_list([{"messages": row["messages"]} for row in rows])
    with stage.quiet():
        trainer = SFTTrainer(stage.load_model(model), arguments, train_dataset=data, processing_class=tokenizer)
        started = time.perf_counter()
        trainer.train()
        return {"seconds": time.perf_counter() - started, "peak_gb": memory.used_memory(device)}


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

    tokenizer = stage.load_tokenizer(tokenizer_of)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    stage.save_model(AutoModelForCausalLM.from_config(Gemma2Config(**GEMMA2_2B, **ids)), tokenizer, folder)
    return folder


def results_of(model: Path, device: str, folder: Path) -> list[Result]:
    """SFT against TRL's defaults, and DPO: useful tokens per second, FLOP use, peak memory."""
    runs: dict[str, list[dict]] = {"trl": [], "sft": [], "dpo": []}
    for run in range(RUNS[device]):
        for kind in runs:
            runs[kind].append(apart(model, kind, device, folder / f"{model.name}-{kind}-{run}"))
    rates = {kind: [one["tokens"] / one["seconds"] for one in found] for kind, found in runs.items()}
    peaks = {kind: [one["peak_gb"] for one in found] for kind, found in runs.items()}
    _, peak, _ = estimate.machine_peak()
    each = estimate.training_flop(estimate.model_facts(model), 1, LENGTH[device])
    use = [100 * rate * each / peak for rate in rates["sft"]] if peak else []
    name, trl, target = model.name, "TRL's defaults", 6.0 if device == "cpu" else None
    return [
        Result(f"{name}: SFT, useful tokens/s", "tokens/s", rates["sft"], None, True, trl, rates["trl"]),
        Result(f"{name}: SFT, peak memory", "GB", peaks["sft"], target, False, trl, peaks["trl"]),
        Result(f"{name}: DPO, tokens/s", "tokens/s", rates["dpo"], None, True),
        Result(f"{name}: DPO, peak memory", "GB", peaks["dpo"], target, False),
        *([Result(f"{name}: SFT, model FLOP use", "%", use, None, True)] if use else []),
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
