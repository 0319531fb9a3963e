"""Direct preference optimisation with TRL, on pairs in its conversational format.

The reference log-probabilities are computed once before training: one copy of the model in memory instead of
two, and the reference is certainly the model in `model_dir`. Paper: https://arxiv.org/abs/2305.18290.
"""

import shutil
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from kyara_utils.models import loading
from kyara_utils.models.bases import check_tokenizer
from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training import stage as stages
from kyara_utils.training import trainer_run
from kyara_utils.training.data import fingerprint
from kyara_utils.training.estimate import model_facts
from kyara_utils.training.launch import check_world, run_job, world_size
from kyara_utils.training.losses import WINS, check_loss, collator, loss_arguments, trainer_class
from kyara_utils.training.memory import check_disk, check_memory, used_memory
from kyara_utils.training.methods import check_method, load_for_training, own_adapters, save_trained
from kyara_utils.training.pair_rows import pair_ids, prepare_pairs

Row = dict[str, Any]
LOOKED_AT = 512  # training pairs at most whose rewards are measured afterwards: all would cost a quarter of an epoch
REWARDS = {
    "accuracy": "rewards/accuracies", "margin": "rewards/margins",
    "chosen_reward": "rewards/chosen", "rejected_reward": "rewards/rejected",
}  # fmt: skip


def train_dpo(
    model_dir: Path,
    pairs: list[Row],
    out_dir: Path,
    *,
    learning_rate: float,
    beta: float,
    epochs: float,
    batch_size: int,
    gradient_accumulation: int,
    max_length: int,
    loss: str = "sigmoid",
    sft_weight: float = 0.0,
    warmup_ratio: float = 0.1,
    seed: int,
    method: str = "full",
    backend: str = "trl",
    processes: int = 0,
    save_steps: int = 0,
    stop_at: float = 0.0,
    progress: bool = True,
) -> dict[str, Any]:
    """Train the model in `model_dir` on preference rows and write it to `out_dir`; return `training.json`.

    `pairs` come from `prepare_pairs`; one that it would reject is a `KyaraError`, since TRL would cut it.
    `loss`: sigmoid, ipo, sppo_hard or sppo_soft (rows with `chosen_win`, `rejected_win`); with `sft_weight` above 0
    that share of the chosen answer's NLL is added (RPO). `method`, `backend`, `processes`, `save_steps`, `stop_at`
    as in `train_sft`.
    Record: key, parameters, pairs, curve[{step, loss, learning_rate, accuracy, margin, chosen_reward,
    rejected_reward}], final_accuracy and final_margin after training, over all or `LOOKED_AT` training pairs (margin
    in units of beta × log-ratio), seconds, processes, device, dtype, reason. An unchanged finished stage is reused.
    """
    if not pairs:
        raise KyaraError("no preference pairs to train on; judge more pairs in the step before")
    device, dtype, reason = choose_precision()
    check_loss(loss, sft_weight, beta)
    check_method(method, backend, device)
    processes = world_size(backend, processes)
    parameters = {
        "learning_rate": learning_rate, "beta": beta, "epochs": epochs, "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation, "max_length": max_length, "loss": loss,
        "sft_weight": sft_weight, "warmup_ratio": warmup_ratio, "seed": seed, "method": method, "backend": backend,
        "dtype": dtype,
    }  # fmt: skip
    columns = ("prompt", "chosen", "rejected", *(WINS if loss == "sppo_soft" else ()))
    _check_pairs(model_dir, pairs, max_length, loss)
    rows = [{name: pair[name] for name in columns} | {"rejected_cut": bool(pair.get("rejected_cut"))} for pair in pairs]
    data = fingerprint(rows, *columns, "rejected_cut") + f"-{processes}"
    key, out_dir = stages.stage_key("dpo", model_dir, data, parameters), Path(out_dir)
    if record := stages.finished(out_dir, key):
        return {**record, "reused": True}
    (out_dir / stages.RECORD).unlink(missing_ok=True)
    facts = model_facts(model_dir)
    memory = check_memory(facts, parameters, device, processes)
    check_disk(facts, parameters, out_dir, bool(save_steps or stop_at))
    job = {
        "kind": "dpo", "model_dir": str(model_dir), "out_dir": str(out_dir), "parameters": parameters,
        "checkpoints": str(out_dir / f"checkpoints-{key[:8]}"), "save_steps": save_steps, "processes": processes,
        "stop_at": stop_at,
    }  # fmt: skip
    with stages.quiet():
        measured = run_job(job, rows, fit, progress)
    shutil.rmtree(job["checkpoints"], ignore_errors=True)
    record = {"key": key, "kind": "dpo", "parameters": parameters, "pairs": len(pairs), **measured}
    record |= {"memory": memory, "device": device, "dtype": dtype, "reason": reason}
    return {**stages.finish(out_dir, record), "reused": False}


def _check_pairs(model_dir: Path, pairs: list[Row], max_length: int, loss: str) -> None:
    tokenizer = loading.load_tokenizer(model_dir)
    check_tokenizer(model_dir, tokenizer)
    _, rejects, _ = prepare_pairs(pairs, tokenizer, max_length, loss)
    if rejects:
        row = rejects[0]
        raise KyaraError(f"preference {row['id']}: {row['rule']}, {row['detail']}; drop it with prepare_pairs")


def fit(job: dict[str, Any], rows: list[Row], progress: bool) -> dict[str, Any]:
    """Train one job in this process, one of `job["processes"]`, and write the model; return what was measured."""
    parameters, out_dir, checkpoints = job["parameters"], Path(job["out_dir"]), Path(job["checkpoints"])
    model, tokenizer = load_for_training(job["model_dir"], parameters), loading.load_tokenizer(job["model_dir"])
    started = time.time()
    with redirect_stderr(StringIO()):  # TRL's own progress bar for the reference cannot be turned off
        trainer = _trainer(model, tokenizer, rows, parameters, checkpoints, job["save_steps"])
    check_world(trainer.args.world_size, job["processes"])
    own_adapters(model)
    trainer_run.run_trainer(trainer, "DPO", progress, trainer_run.last_checkpoint(checkpoints), job["stop_at"])
    every = -(-len(rows) // LOOKED_AT)
    trainer.eval_dataset = trainer.train_dataset.select(range(0, len(rows), every))  # with the reference's values
    final = trainer.evaluate()
    seconds = time.time() - started
    save_trained(trainer, tokenizer, Path(job["model_dir"]), out_dir, parameters["method"])
    return {
        "curve": trainer_run.curve(trainer.state.log_history, **REWARDS),
        "final_accuracy": final["eval_rewards/accuracies"], "final_margin": final["eval_rewards/margins"],
        "seconds": round(seconds, 1), "processes": trainer.args.world_size,
        "peak_gb": used_memory(trainer.args.device.type),
    }  # fmt: skip


def _trainer(model, tokenizer, rows: list[Row], parameters: dict[str, Any], folder: Path, save_steps: int):
    from datasets import Dataset
    from trl import DPOConfig

    arguments = DPOConfig(
        **stages.common_arguments(folder, seed=parameters["seed"], dtype=parameters["dtype"], save_steps=save_steps),
        **loss_arguments(parameters["loss"], parameters["sft_weight"]),
        learning_rate=parameters["learning_rate"],
        beta=parameters["beta"],
        num_train_epochs=parameters["epochs"],
        per_device_train_batch_size=parameters["batch_size"],
        per_device_eval_batch_size=1,  # so that the mean over batches is the mean over pairs
        gradient_accumulation_steps=parameters["gradient_accumulation"],
        warmup_steps=parameters["warmup_ratio"],
        max_length=parameters["max_length"],
        precompute_ref_log_probs=True,
        model_init_kwargs={"device_map": None} if parameters["backend"] == "fsdp2" else None,  # of TRL's reference copy
    )
    wins = WINS if parameters["loss"] == "sppo_soft" else ()
    ids = [{**pair_ids(tokenizer, row), **{name: float(row[name]) for name in wins}} for row in rows]
    return trainer_class()(
        model=model, args=stages.one_device(arguments), train_dataset=Dataset.from_list(ids),
        processing_class=tokenizer,
        data_collator=collator(tokenizer.pad_token_id),
    )  # fmt: skip
