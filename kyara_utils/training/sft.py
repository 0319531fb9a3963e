"""Supervised fine-tuning of all weights with TRL, the same on a laptop CPU and on a GPU.

Only the assistant's turns carry the loss, rows are packed without crossing documents, and the held-out loss
is measured before and after on whole, unpacked rows. Two calls make Kyara's two stages: the second starts
from the first one's folder with a fresh optimizer.
"""

import shutil
from pathlib import Path
from typing import Any

from kyara_utils.runs.env import device_and_dtype
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training import stage as stages
from kyara_utils.training.data import fingerprint
from kyara_utils.training.templates import encode

Row = dict[str, Any]


def held_out_loss(model, tokenizer, rows: list[Row]) -> float:
    """Return the mean negative log-likelihood (nats) per supervised token of conversation rows, unpacked.

    Raises `KyaraError` without rows. Logits are computed at the supervised positions only.
    """
    import torch

    if not rows:
        raise KyaraError("no held-out rows to measure; raise the held-out share")
    total, count, training = 0.0, 0, model.training
    model.eval()
    with torch.inference_mode():
        for row in rows:
            ids, mask = encode(tokenizer, row["messages"])
            loss, tokens = _row_loss(model, ids, mask)
            total, count = total + loss, count + tokens
    model.train(training)
    return total / count


def _row_loss(model, ids: list[int], mask: list[int]) -> tuple[float, int]:
    import torch

    places = torch.tensor([at for at in range(1, len(ids)) if mask[at]], device=model.device)
    tokens = torch.tensor([ids], device=model.device)
    logits = model(tokens, use_cache=False, logits_to_keep=places - 1).logits[0].float()
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
    packing: bool = True,
    save_steps: int = 0,
    stage: str = "base",
    progress: bool = True,
) -> dict[str, Any]:
    """Train the model in `model_dir` on conversation rows and write it to `out_dir`; return `training.json`.

    `rows` and `held_out` come from `prepare_conversations`; `max_length` is tokens per row, or per pack when
    packing. The learning rate warms up over `warmup_ratio` of the steps and falls as a cosine. A stage with
    the same weights, rows and parameters is not trained again (`reused` is then true); with `save_steps` an
    interrupted one resumes from its last complete checkpoint. Record: key, stage, held_out_before/after
    (nats per supervised token, None without held-out rows), curve[{step, loss, learning_rate, tokens}], rows, tokens,
    seconds, tokens_per_second, device, dtype, reason.
    """
    if not rows:
        raise KyaraError(f"no rows to train stage {stage} on; loosen the filters of the step before")
    parameters = {
        "learning_rate": learning_rate, "epochs": epochs, "max_length": max_length, "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation, "warmup_ratio": warmup_ratio, "seed": seed,
        "packing": packing, "stage": stage,
    }  # fmt: skip
    data = fingerprint([*rows, *held_out], "messages") + f"-{len(rows)}"
    key, out_dir = stages.stage_key("sft", model_dir, data, parameters), Path(out_dir)
    if record := stages.finished(out_dir, key):
        return {**record, "reused": True}
    (out_dir / stages.RECORD).unlink(missing_ok=True)
    with stages.quiet():
        measured = _train(model_dir, rows, held_out, out_dir, key, parameters, save_steps, progress)
    record = {"key": key, "kind": "sft", "stage": stage, "parameters": parameters, "rows": len(rows)}
    return {**stages.finish(out_dir, {**record, **measured}), "reused": False}


def _train(model_dir, rows, held_out, out_dir, key, parameters, save_steps, progress) -> dict[str, Any]:
    tokenizer, model = stages.load_tokenizer(model_dir), stages.load_model(model_dir)
    before = held_out_loss(model, tokenizer, held_out) if held_out else None
    checkpoints = out_dir / f"checkpoints-{key[:8]}"
    trainer = _trainer(model, tokenizer, rows, parameters, checkpoints, save_steps)
    resume = stages.last_checkpoint(checkpoints) if save_steps else None
    seconds = stages.run_trainer(trainer, f"SFT {parameters['stage']}", progress, resume)
    after = held_out_loss(model, tokenizer, held_out) if held_out else None
    stages.save_model(model, tokenizer, out_dir)
    shutil.rmtree(checkpoints, ignore_errors=True)
    tokens = sum(len(encode(tokenizer, row["messages"])[0]) for row in rows)
    device, dtype, reason = device_and_dtype()
    return {
        "held_out_before": before, "held_out_after": after,
        "curve": stages.curve(trainer.state.log_history, tokens="num_tokens"), "tokens": tokens,
        "seconds": round(seconds, 1), "device": device, "dtype": dtype, "reason": reason,
        "tokens_per_second": round(tokens * parameters["epochs"] / seconds, 1),
    }  # fmt: skip


def _trainer(model, tokenizer, rows, parameters, folder: Path, save_steps: int):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(
        **stages.common_arguments(folder, seed=parameters["seed"], save_steps=save_steps),
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
    return SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)
