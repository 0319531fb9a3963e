"""Supervised fine-tuning with TRL, the same on a laptop CPU, on a GPU and on several.

Only the assistant's turns carry the loss, rows are packed without crossing documents, and the held-out loss
is measured before and after on whole, unpacked rows. Two calls make Kyara's two stages: the second starts
from the first one's folder with a fresh optimizer.
"""

import shutil
from pathlib import Path
from typing import Any

from kyara_utils.models import loading
from kyara_utils.models.bases import check_tokenizer
from kyara_utils.models.chat_templates import encode
from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training import stage as stages
from kyara_utils.training import trainer_run
from kyara_utils.training.data import fingerprint
from kyara_utils.training.estimate import model_facts
from kyara_utils.training.launch import check_world, run_job, world_size
from kyara_utils.training.memory import check_disk, check_memory, used_memory
from kyara_utils.training.methods import check_method, load_for_training, own_adapters, packs, save_trained

Row = dict[str, Any]
ALL = "all"


def held_out_loss(model, tokenizer, rows: list[Row]) -> float:
    """Return the mean negative log-likelihood (nats) per supervised token of conversation rows, unpacked.

    Raises `KyaraError` without rows. Logits are computed at the supervised positions only.
    """
    return held_out_losses(model, tokenizer, rows)[ALL]


def held_out_losses(model, tokenizer, rows: list[Row]) -> dict[str, float]:
    """Return the held-out loss by source of the rows, and of all rows under `ALL`."""
    import torch

    if not rows:
        raise KyaraError("no held-out rows to measure; raise the held-out share")
    sums: dict[str, list[float]] = {}
    training = model.training
    model.eval()
    with torch.inference_mode():
        for row in rows:
            loss, tokens = _row_loss(model, *encode(tokenizer, row["messages"]))
            for name in {ALL, row.get("source") or ALL}:
                total = sums.setdefault(name, [0.0, 0])
                total[0], total[1] = total[0] + loss, total[1] + tokens
    model.train(training)
    return {name: loss / tokens for name, (loss, tokens) in sorted(sums.items())}


def _row_loss(model, ids: list[int], mask: list[int]) -> tuple[float, int]:
    import torch

    places = torch.tensor([at for at in range(1, len(ids)) if mask[at]], device=model.device)
    tokens = torch.tensor([ids], device=model.device)
    logits = model(tokens, use_cache=False, logits_to_keep=places - 1).logits[0]
    logits = (logits if len(logits) == len(places) else logits[places - 1]).float()  # Unsloth's Gemma 2 keeps all
    return float(torch.nn.functional.cross_entropy(logits, tokens[0, places], reduction="sum")), len(places)


def train_sft(
    model_dir: Path,
    rows: list[Row],
    held_out: list[Row],
    out_dir: Path,
    *,
    learning_rate: float,
    epochs: float,
    max_length: int,
    batch_size: int,
    gradient_accumulation: int,
    warmup_ratio: float,
    seed: int,
    method: str = "full",
    backend: str = "trl",
    processes: int = 0,
    packing: bool = True,
    save_steps: int = 0,
    stop_at: float = 0.0,
    stage: str = "base",
    progress: bool = True,
) -> dict[str, Any]:
    """Train the model in `model_dir` on conversation rows and write it to `out_dir`; return `training.json`.

    `rows` and `held_out` come from `prepare_conversations`; `max_length` is tokens per row, or per pack when
    packing. The learning rate warms up over `warmup_ratio` of the steps and falls as a cosine. `method`: full, lora
    or qlora. `backend`: trl, unsloth, or a launch configuration of params/accelerate, then in `processes` processes
    (0: one for each GPU), each with `batch_size` rows a step. A stage with the same weights, rows and parameters is
    not trained again (`reused` is then true); with `save_steps` an interrupted one resumes from its last complete
    checkpoint. At `stop_at` (seconds since the epoch, 0: never) it saves and ends with a `KyaraError`, before a
    batch system would kill it.
    Record: key, stage, held_out_before/after (nats per supervised token, None without held-out rows),
    held_out_by_source{source: [before, after]}, curve[{step, loss, learning_rate, tokens}], rows, tokens, seconds,
    tokens_per_second, processes, peak_gb, memory, device, dtype and the reason for it.
    """
    if not rows:
        raise KyaraError(f"no rows to train stage {stage} on; loosen the filters of the step before")
    device, dtype, reason = choose_precision()
    check_method(method, backend, device)
    processes = world_size(backend, processes)
    parameters = {
        "learning_rate": learning_rate, "epochs": epochs, "max_length": max_length, "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation, "warmup_ratio": warmup_ratio, "seed": seed,
        "packing": packing and packs(backend, model_dir), "stage": stage, "method": method, "backend": backend,
        "dtype": dtype,
    }  # fmt: skip
    data = fingerprint([*rows, *held_out], "messages") + f"-{len(rows)}-{processes}"
    key, out_dir = stages.stage_key("sft", model_dir, data, parameters), Path(out_dir)
    if record := stages.finished(out_dir, key):
        return {**record, "reused": True}
    (out_dir / stages.RECORD).unlink(missing_ok=True)
    facts = model_facts(model_dir)
    memory = check_memory(facts, parameters, device, processes)
    check_disk(facts, parameters, out_dir, bool(save_steps or stop_at))
    job = {
        "kind": "sft", "model_dir": str(model_dir), "out_dir": str(out_dir), "parameters": parameters,
        "checkpoints": str(out_dir / f"checkpoints-{key[:8]}"), "save_steps": save_steps, "processes": processes,
        "stop_at": stop_at,
    }  # fmt: skip
    with stages.quiet():
        measured = _train(job, rows, held_out, progress)
    record = {"key": key, "kind": "sft", "stage": stage, "parameters": parameters, "rows": len(rows), **measured}
    record |= {"memory": memory, "device": device, "dtype": dtype, "reason": reason}
    return {**stages.finish(out_dir, record), "reused": False}


def _train(job: dict[str, Any], rows: list[Row], held_out: list[Row], progress: bool) -> dict[str, Any]:
    tokenizer = loading.load_tokenizer(job["model_dir"])
    check_tokenizer(job["model_dir"], tokenizer)
    before = _losses_of(job["model_dir"], tokenizer, held_out)
    measured = run_job(job, [{"messages": row["messages"]} for row in rows], fit, progress)
    shutil.rmtree(job["checkpoints"], ignore_errors=True)
    tokens = sum(len(encode(tokenizer, row["messages"])[0]) for row in rows)
    speed = tokens * job["parameters"]["epochs"] * measured.pop("share") / measured["seconds"]
    after = _losses_of(job["out_dir"], tokenizer, held_out)
    return {
        "held_out_before": before.get(ALL), "held_out_after": after.get(ALL),
        "held_out_by_source": {name: [before[name], after[name]] for name in after if name != ALL}, **measured,
        "tokens": tokens, "seconds": round(measured["seconds"], 1), "tokens_per_second": round(speed, 1),
    }  # fmt: skip


def _losses_of(model_dir: Path, tokenizer, rows: list[Row]) -> dict[str, float]:
    return held_out_losses(loading.load_model(model_dir), tokenizer, rows) if rows else {}


def fit(job: dict[str, Any], rows: list[Row], progress: bool) -> dict[str, Any]:
    """Train one job in this process, one of `job["processes"]`, and write the model; return curve and seconds."""
    parameters, checkpoints = job["parameters"], Path(job["checkpoints"])
    model, tokenizer = load_for_training(job["model_dir"], parameters), loading.load_tokenizer(job["model_dir"])
    trainer = _trainer(model, tokenizer, rows, parameters, checkpoints, job["save_steps"])
    check_world(trainer.args.world_size, job["processes"])
    own_adapters(model)
    resume = trainer_run.last_checkpoint(checkpoints)
    trainer._total_train_tokens = trainer_run.tokens_seen(resume)  # TRL counts from 0 again
    seconds = trainer_run.run_trainer(trainer, f"SFT {parameters['stage']}", progress, resume, job["stop_at"])
    save_trained(trainer, tokenizer, Path(job["model_dir"]), Path(job["out_dir"]), parameters["method"])
    points = trainer_run.curve(trainer.state.log_history, tokens="num_tokens")
    return {
        "curve": points, "seconds": seconds, "processes": trainer.args.world_size,
        "peak_gb": used_memory(trainer.args.device.type), "share": trainer_run.share_trained(trainer, resume),
    }  # fmt: skip


def _trainer(model, tokenizer, rows, parameters, folder: Path, save_steps: int):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    common = stages.common_arguments(folder, seed=parameters["seed"], dtype=parameters["dtype"], save_steps=save_steps)
    arguments = SFTConfig(
        **common,
        learning_rate=parameters["learning_rate"],
        num_train_epochs=parameters["epochs"],
        per_device_train_batch_size=parameters["batch_size"],
        gradient_accumulation_steps=parameters["gradient_accumulation"],
        warmup_steps=parameters["warmup_ratio"],
        max_length=parameters["max_length"],
        packing=parameters["packing"],
        packing_strategy="bfd",
        assistant_only_loss=True,
    )
    data = Dataset.from_list([{"messages": row["messages"]} for row in rows])
    return SFTTrainer(model=model, args=stages.one_device(arguments), train_dataset=data, processing_class=tokenizer)
