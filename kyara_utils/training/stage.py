"""What every training stage shares: reuse of a finished stage, trainer arguments.

A stage is finished when `training.json` stands beside its weights; the file is written last, and it names the
inputs by hash, so an interrupted or changed stage is trained again and an unchanged one is not.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kyara_utils.models.loading import weights_sha256
from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.files import read_json, replace_text
from kyara_utils.runs.tables import content_id

RECORD = "training.json"
VERSION = 3  # part of the key: raise it when training would give other weights


def stage_key(kind: str, model_dir: Path, data: str, parameters: dict[str, Any]) -> str:
    """Return the hash of all that decides a stage's weights: kind, base weights, data, parameters."""
    body = json.dumps([VERSION, kind, weights_sha256(model_dir), data, parameters], sort_keys=True)
    return content_id(body, prefix="", n=32)


def finished(out_dir: Path, key: str) -> dict[str, Any] | None:
    """Return the record of a finished stage with this key whose weights are intact, else None."""
    record = read_json(out_dir / RECORD)
    if record.get("key") != key or not any(out_dir.glob("*.safetensors")):
        return None
    return record if record.get("weights") == weights_sha256(out_dir) else None


def finish(out_dir: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Write `training.json` last and return it."""
    record = {**record, "weights": weights_sha256(out_dir)}
    replace_text(out_dir / RECORD, json.dumps(record, ensure_ascii=False, indent=1))
    return record


def common_arguments(folder: Path, *, seed: int, dtype: str, save_steps: int = 0) -> dict[str, Any]:
    """Return the trainer arguments that do not depend on the recipe: precision, logging, checkpoints.

    The trainer's own filter would log a NaN loss as the mean of the losses before it.
    """
    cpu = choose_precision()[0] == "cpu"
    return {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "use_cpu": cpu,
        "bf16": dtype == "bfloat16",
        "gradient_checkpointing": not cpu,
        "dataloader_pin_memory": not cpu,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "steps" if save_steps else "no",
        "save_steps": save_steps or 500,
        "save_total_limit": 2,
    }


def one_device(arguments):
    """Return trainer arguments that use one GPU of a process that sees several.

    Kaggle's two T4 would else be driven by `DataParallel`, which TRL refuses.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


@contextmanager
def quiet() -> Iterator[None]:
    """Keep trainers silent and offline from telemetry inside the block.

    TRL warns that packing needs FlashAttention. Without an attention mask and a cache, transformers 5 keeps
    packed documents apart with SDPA too; tests/test_training.py compares packed with separate losses.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import datasets
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    bars = datasets.are_progress_bars_disabled()
    loggers = [logging.getLogger(name) for name in ("trl", "transformers", "bitsandbytes")]
    levels = [logger.level for logger in loggers]
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
