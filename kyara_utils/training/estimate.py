"""What a training run will cost before it starts: floating-point operations, hours, money, memory.

    python -m kyara_utils.training.estimate google/gemma-2-2b-it --tokens 4.51e9 --length 4096

The count is PaLM's (https://arxiv.org/abs/2204.02311, appendix B): six operations per parameter and token, plus the
attention scores. Utilisation and rents are assumptions, printed as such; the peaks are the makers' own dense figures.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from kyara_utils.models.precision import choose_precision, cpu_speeds
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training.memory import GB, peak_memory

# Peak TFLOP/s in the numbers we train in, and assumed USD per hour of rent. Makers halve these without sparsity.
HARDWARE = {
    "H200": (989.4, 3.5),  # NVIDIA H200 data sheet, SXM, bf16 dense
    "H100": (989.4, 3.0),  # NVIDIA H100 data sheet, SXM, bf16 dense
    "A100": (312.0, 1.8),  # NVIDIA A100 data sheet, bf16 dense
    "L40S": (362.0, 1.0),  # NVIDIA L40S data sheet, bf16 dense
    "L4": (121.0, 0.7),  # NVIDIA L4 data sheet, bf16 dense
    "A10": (125.0, 0.75),  # NVIDIA A10 data sheet, bf16 dense
    "4090": (165.2, 0.4),  # NVIDIA Ada GPU architecture paper, bf16 with fp32 accumulation, dense
    "T4": (8.1, 0.35),  # NVIDIA T4 data sheet, fp32: it has no bf16; Kaggle lends one, see FREE_HOURS
    "V100": (15.7, 0.5),  # NVIDIA V100 data sheet, SXM2, fp32
}
# Shapes that can be planned with before anything is downloaded; from the model's own config.json.
SHAPES = {
    "google/gemma-2-2b-it": {
        "parameters": 2_614_341_888, "vocabulary": 256_000, "layers": 26, "hidden": 2304, "intermediate": 9216,
        "attention": 2048, "heads": 8,
    }
}  # fmt: skip
FREE_HOURS = 30  # a week of a T4 on Kaggle, by its published quota
UTILISATION = 0.4  # of the peak; well-kept trainers reach 0.3 to 0.5


def model_facts(model_dir: Path) -> dict[str, int]:
    """Return parameters, vocabulary, layers, hidden, intermediate and attention (heads × head width) of a folder.

    Read from config.json and the headers of the safetensors files, without loading a weight.
    """
    from safetensors import safe_open

    path = Path(model_dir) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config = config.get("text_config") or config
    parameters = 0
    for file in sorted(Path(model_dir).glob("*.safetensors")):
        with safe_open(file, framework="np") as weights:
            parameters += sum(_size(weights.get_slice(name).get_shape()) for name in weights.keys())
    if not parameters or "hidden_size" not in config:
        raise KyaraError(f"{model_dir} is no transformers model folder; give one with config.json and safetensors")
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {
        "parameters": parameters, "vocabulary": config["vocab_size"], "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"], "intermediate": config["intermediate_size"],
        "attention": config["num_attention_heads"] * width, "heads": config["num_attention_heads"],
    }  # fmt: skip


def _size(shape: list[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def training_flop(facts: dict[str, int], tokens: float, length: int, method: str = "full") -> float:
    """Return the operations to train on `tokens` tokens in rows of `length`.

    Adapters save the gradients of the frozen matrices: four operations per parameter and token instead of six.
    """
    dense = (6 if method == "full" else 4) * facts["parameters"]
    return tokens * (dense + 12 * facts["layers"] * facts["attention"] * length)


def machine_peak() -> tuple[str, float, float]:
    """Return (name, peak FLOP/s, USD per hour) of the device that trains here; a CPU's peak is measured.

    A GPU outside `HARDWARE` has peak 0.0: no hours are guessed for it.
    """
    device, dtype, _ = choose_precision()
    if device == "cpu":
        return "this CPU", cpu_speeds()[dtype] * 1e9, 0.0
    import torch

    name = torch.cuda.get_device_name(0)
    known = next((key for key in HARDWARE if key in name.split() or key in name.replace("-", " ").split()), "")
    peak, rent = HARDWARE.get(known, (0.0, 0.0))
    return name, peak * 1e12, rent


def estimate(
    model_dir: Path, tokens: float, length: int, method: str = "full", facts: dict[str, int] | None = None
) -> dict[str, Any]:
    """Return {flop, tokens, parameters, runs[{on, gpus, hours, usd}]} for here, one T4, one and eight H100.

    `facts` stand for those of `model_dir` when given.
    """
    facts = facts or model_facts(model_dir)
    flop = training_flop(facts, tokens, length, method)
    here, peak, rent = machine_peak()
    places = [(here, 1, peak, rent)]
    places += [
        (name, gpus, HARDWARE[name][0] * 1e12, HARDWARE[name][1])
        for name, gpus in (("T4", 1), ("H100", 1), ("H100", 8))
    ]
    runs = []
    for name, gpus, speed, price in places:
        if speed:
            hours = flop / (speed * gpus * UTILISATION) / 3600
            runs.append({"on": name, "gpus": gpus, "hours": hours, "usd": hours * gpus * price})
    return {"flop": flop, "tokens": tokens, "parameters": facts["parameters"], "runs": runs}


def as_text(found: dict[str, Any]) -> str:
    """Return the estimate as lines for people."""
    lines = [f"{found['parameters'] / 1e6:,.0f} M parameters × {found['tokens']:,.0f} tokens: {found['flop']:.2g} FLOP"]
    for run in found["runs"]:
        lines.append(f"  {run['gpus']} × {run['on']}: {_time(run['hours'])}{_money(run)}")
    return "\n".join([*lines, f"  assumed: {UTILISATION:.0%} of the peak is used, and the rents of estimate.py"])


def _money(run: dict[str, Any]) -> str:
    """Rent in words; nothing for a machine without a known rent, and what Kaggle's free hours amount to."""
    if not run["usd"]:
        return ""
    rent = f"{run['usd']:,.0f}" if run["usd"] >= 1 else f"{run['usd']:.2f}"
    weeks = run["hours"] / FREE_HOURS
    free = f", or {weeks:,.0f} weeks of Kaggle's free hours" if weeks > 1 else ", free on Kaggle"
    return f", about {rent} USD of rent" + (free if run["on"].endswith("T4") else "")


def _time(hours: float) -> str:
    if hours >= 72:
        return f"{hours / 24:,.0f} days"
    if hours >= 1:
        return f"{hours:,.1f} h"
    if hours >= 1 / 60:
        return f"{hours * 60:.0f} min"
    return f"{hours * 3600:.0f} s" if hours >= 1 / 3600 else "under a second"


def main(arguments: list[str] | None = None) -> None:
    """Command line: cost and memory of training a model on so many tokens."""
    given = _arguments(arguments)
    facts = SHAPES.get(given.model) or model_facts(Path(given.model))
    print(as_text(estimate(Path(given.model), given.tokens, given.length, given.method, facts)))
    job = {"batch_size": 1, "max_length": given.length, "method": given.method, "dtype": "bfloat16", "backend": "trl"}
    for backend, gpus in (("trl", 1), ("fsdp2", 8)):
        needed = sum(peak_memory(facts, job | {"backend": backend}, "cuda", gpus).values())
        print(f"  memory for one row a step, backend {backend}: about {needed / GB:.0f} GB on each of {gpus} GPU")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kyara_utils.training.estimate", description=__doc__.split("\n")[0])
    parser.add_argument("model", help=f"a model folder, or without a download {', '.join(SHAPES)}")
    parser.add_argument("--tokens", type=float, required=True, help="trained on in all, epochs included")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a row or pack (default: 4096)")
    parser.add_argument("--method", choices=("full", "lora", "qlora"), default="full")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except KyaraError as error:
        raise SystemExit(str(error)) from error
