"""Direct preference optimisation with TRL, on pairs in its conversational format.

The reference log-probabilities are computed once before training: one copy of the model in memory instead of
two, and the reference is certainly the model in `model_dir`. Paper: https://arxiv.org/abs/2305.18290.
"""

import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from kyara_utils.runs.env import device_and_dtype
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import reject
from kyara_utils.training import stage as stages
from kyara_utils.training.data import fingerprint
from kyara_utils.training.templates import check_turns

Row = dict[str, Any]
COLUMNS = ("prompt", "chosen", "rejected")
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
    loss_type: str = "sigmoid",
    warmup_ratio: float = 0.1,
    seed: int,
    progress: bool = True,
) -> dict[str, Any]:
    """Train the model in `model_dir` on preference rows and write it to `out_dir`; return `training.json`.

    Each pair's prompt + answer must fit `max_length` tokens; longer ones are a `KyaraError`, since TRL would
    cut the answers. Record: key, parameters, pairs, curve[{step, loss, learning_rate, accuracy, margin,
    chosen_reward, rejected_reward}], final_accuracy and
    final_margin over all training pairs after training (margin in units of beta × log-ratio), seconds,
    device, dtype, reason. An unchanged finished stage is reused as in `train_sft`.
    """
    parameters = {
        "learning_rate": learning_rate, "beta": beta, "epochs": epochs, "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation, "max_length": max_length, "loss_type": loss_type,
        "warmup_ratio": warmup_ratio, "seed": seed,
    }  # fmt: skip
    _check_turns(pairs)
    key = stages.stage_key("dpo", model_dir, fingerprint(pairs, *COLUMNS), parameters)
    out_dir = Path(out_dir)
    if record := stages.finished(out_dir, key):
        return {**record, "reused": True}
    (out_dir / stages.RECORD).unlink(missing_ok=True)
    with stages.quiet():
        measured = _train(model_dir, pairs, out_dir, parameters, progress)
    record = {"key": key, "kind": "dpo", "parameters": parameters, "pairs": len(pairs), **measured}
    return {**stages.finish(out_dir, record), "reused": False}


def _check_turns(pairs: list[Row]) -> None:
    if not pairs:
        raise KyaraError("no preference pairs to train on; judge more pairs in the step before")
    for pair in pairs:
        for side in ("chosen", "rejected"):
            problem = check_turns([*pair["prompt"], *pair[side]])
            if problem:
                raise KyaraError(f"preference {pair.get('id')}: {side}: {problem}; mend or drop the row")


def split_by_length(pairs: list[Row], tokenizer, max_length: int) -> tuple[list[Row], list[Row]]:
    """Return (pairs whose prompt + answer fit `max_length` tokens on both sides, reject rows of rule `too_long`)."""
    kept, rejects = [], []
    for pair in pairs:
        longest = max(_tokens(tokenizer, pair, side) for side in ("chosen", "rejected"))
        if longest > max_length:
            rejects.append(reject("07_dpo", "too_long", pair, f"{longest} tokens"))
        else:
            kept.append(pair)
    return kept, rejects


def _tokens(tokenizer, pair: Row, side: str) -> int:
    return len(tokenizer.apply_chat_template([*pair["prompt"], *pair[side]], return_dict=True)["input_ids"])


def _check_lengths(tokenizer, pairs: list[Row], max_length: int) -> None:
    _, long = split_by_length(pairs, tokenizer, max_length)
    if long:
        row = long[0]
        raise KyaraError(f"preference {row['id']} has {row['detail']} > {max_length}; drop it (split_by_length)")


def _train(model_dir, pairs, out_dir: Path, parameters: dict[str, Any], progress: bool) -> dict[str, Any]:
    tokenizer, model = stages.load_tokenizer(model_dir), stages.load_model(model_dir)
    _check_lengths(tokenizer, pairs, parameters["max_length"])
    started = time.time()
    with redirect_stderr(StringIO()):  # TRL's own progress bar for the reference cannot be turned off
        trainer = _trainer(model, tokenizer, pairs, parameters, out_dir)
    stages.run_trainer(trainer, "DPO", progress)
    trainer.eval_dataset = trainer.train_dataset  # it carries the reference's log-probabilities already
    final = trainer.evaluate()
    seconds = time.time() - started
    stages.save_model(model, tokenizer, out_dir)
    device, dtype, reason = device_and_dtype()
    return {
        "curve": stages.curve(trainer.state.log_history, **REWARDS),
        "final_accuracy": final["eval_rewards/accuracies"], "final_margin": final["eval_rewards/margins"],
        "seconds": round(seconds, 1), "device": device, "dtype": dtype, "reason": reason,
    }  # fmt: skip


def _trainer(model, tokenizer, pairs: list[Row], parameters: dict[str, Any], folder: Path):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    arguments = DPOConfig(
        **stages.common_arguments(folder, seed=parameters["seed"]),
        learning_rate=parameters["learning_rate"],
        beta=parameters["beta"],
        loss_type=[parameters["loss_type"]],
        num_train_epochs=parameters["epochs"],
        per_device_train_batch_size=parameters["batch_size"],
        per_device_eval_batch_size=1,  # so that the mean over batches is the mean over pairs
        gradient_accumulation_steps=parameters["gradient_accumulation"],
        warmup_steps=parameters["warmup_ratio"],
        max_length=parameters["max_length"],
        precompute_ref_log_probs=True,
    )
    data = Dataset.from_list([{column: pair[column] for column in COLUMNS} for pair in pairs])
    return DPOTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
