"""Whether a training run fits into memory and onto the disk, asked before anything is loaded: a killed kernel explains
nothing, and a disk that fills up at the first checkpoint costs the hours before it.

The estimate adds weights, gradients, optimizer states, activations and logits, for rows as long as they may be; with
shorter ones it is too high. On a CPU in bf16, SFT of the smoke student was estimated at 3.5 GB and took 3.4 to 3.6, DPO
at 5.6 and took 4.9.
"""

import shutil
from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError

GB = 2**30
RUNTIME = 1.0 * GB  # Python, PyTorch, TRL; on a GPU the CUDA context and the allocator's gaps
LORA_SHARE = 0.01 / 16  # trained parameters for each rank of an adapter, generously
RANK = 16  # of LoRA where a recipe names none
STATES = ("gradients", "optimizer")
SHARDED = {"fsdp2": ("weights", *STATES), "zero3": ("weights", *STATES), "zero2": STATES}
FOUR_BIT = 0.6  # bytes a weight, with its scales


def peak_memory(facts: dict[str, int], parameters: dict[str, Any], device: str, processes: int = 1) -> dict[str, float]:
    """Return bytes by use for one device; `facts` from `model_facts`, `parameters` of a training job.

    AdamW holds two fp32 numbers per trained parameter. On GPUs activations are checkpointed, on CPUs all are kept,
    unless `trainer` says otherwise.
    A preference job holds two rows a pair and whole logits, SFT scores its logits in chunks.
    """
    pairs = "beta" in parameters
    trained = facts["parameters"] * _share(parameters)
    tokens = parameters["batch_size"] * parameters["max_length"] * (2 if pairs else 1)
    uses = {"weights": _weights(facts, parameters), "gradients": 4 * trained, "optimizer": 8 * trained}
    for name in SHARDED.get(parameters["backend"], ()):
        uses[name] /= processes
    uses["activations"] = tokens * _activations(facts, parameters, device)
    uses["logits"] = 12 * facts["vocabulary"] * (tokens if pairs else min(tokens, 256))
    return {**uses, "runtime": RUNTIME}


def _share(parameters: dict[str, Any]) -> float:
    """The share of the weights that is trained."""
    if parameters["method"] == "full":
        return 1.0
    return LORA_SHARE * parameters.get("lora", {}).get("r", RANK)


def _weights(facts: dict[str, int], parameters: dict[str, Any]) -> float:
    half = 2 if parameters["dtype"] == "bfloat16" else 0  # mixed precision keeps a bf16 copy beside the fp32 weights
    size = half if half and parameters["method"] == "lora" else 4 + half
    if parameters["method"] != "qlora":
        return size * facts["parameters"]
    embedding = facts["vocabulary"] * facts["hidden"]  # it stays in fp32
    return 4 * embedding + FOUR_BIT * (facts["parameters"] - embedding)


def _activations(facts: dict[str, int], parameters: dict[str, Any], device: str) -> float:
    """Bytes per token that autograd keeps: all layers whole or, checkpointed, one layer and the inputs of the rest."""
    size = 2 if parameters["dtype"] == "bfloat16" else 4
    layer = size * (10 * facts["hidden"] + 5 * facts["attention"] + 4 * facts["intermediate"])
    layer += 2 * size * facts["heads"] * parameters["max_length"]  # scores and softmax, where not fused
    checkpointed = parameters.get("trainer", {}).get("gradient_checkpointing", device != "cpu")
    return layer + facts["layers"] * size * facts["hidden"] if checkpointed else facts["layers"] * layer


def free_memory(device: str) -> float:
    """Return the bytes that training may still use: of the GPU, or of the machine within its container's limit."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    import psutil

    return min(psutil.virtual_memory().available, _container_room())


def _container_room() -> float:
    def number(name: str) -> float:
        try:
            return float(open(f"/sys/fs/cgroup/{name}").read())
        except (OSError, ValueError):  # no such file, or the word "max"
            return float("inf")

    limit = number("memory.max")
    return limit - min(number("memory.current"), limit) if limit < float("inf") else limit


def check_memory(
    facts: dict[str, int], parameters: dict[str, Any], device: str, processes: int = 1
) -> dict[str, float]:
    """Return {estimated_gb, free_gb}; `KyaraError` with the fix when the run cannot fit."""
    uses = peak_memory(facts, parameters, device, processes)
    needed, there = sum(uses.values()), free_memory(device)
    if needed > there:
        largest = max(uses, key=uses.get)
        raise KyaraError(
            f"training needs about {needed / GB:.1f} GB on {device}, {there / GB:.1f} GB are free "
            f"(most for {largest}: {uses[largest] / GB:.1f}); {_fix(largest, parameters['method'], device)}"
        )
    return {"estimated_gb": round(needed / GB, 2), "free_gb": round(there / GB, 2)}


def check_disk(facts: dict[str, int], parameters: dict[str, Any], folder: Path, saves: bool) -> None:
    """Raise `KyaraError` where the model and, if it `saves` on the way, three checkpoints do not fit on the disk.

    Two are kept while a third is written. A checkpoint holds the trained weights and AdamW's two numbers for each, all
    in fp32; a merged model is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = 4 * facts["parameters"]
    trained = model * _share(parameters)
    needed, there = model + (9 * trained if saves else 0), shutil.disk_usage(folder).free
    if needed > there:
        raise KyaraError(
            f"{folder} needs about {needed / GB:.1f} GB for the model and its checkpoints, {there / GB:.1f} GB are free"
            "; free the disk, or set KYARA_RUNS to a larger one"
        )


def _fix(largest: str, method: str, device: str) -> str:
    if largest in ("activations", "logits"):
        return "lower batch_size and raise gradient_accumulation, or lower max_length"
    if method == "full":
        return "set method to lora, or backend to fsdp2 on several GPUs"
    return "set method to qlora" if method == "lora" and device == "cuda" else "use a smaller model or a larger machine"


def used_memory(device: str) -> float:
    """Return the peak so far in GB: of this process's tensors on the GPU, or its resident memory."""
    if device == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated() / GB, 2)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB, 2)
