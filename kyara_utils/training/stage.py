"""What every training stage shares: it is checked, reused when finished and unchanged, launched, and recorded last.

A stage is finished when `training.json` stands beside its weights; the file is written last, and it names the
inputs by hash, so an interrupted or changed stage is trained again and an unchanged one is not.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kyara_utils.models.bases import MAPPING
from kyara_utils.models.loading import weights_sha256
from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.files import read_json, replace_text
from kyara_utils.runs.tables import Row, content_id
from kyara_utils.training.estimate import model_facts
from kyara_utils.training.launch import Job, world_size
from kyara_utils.training.memory import check_disk, check_memory
from kyara_utils.training.settings import Settings

log = logging.getLogger(__name__)
RECORD = "training.json"
MODEL_FILES = (RECORD, "model.gguf", "*.safetensors", "*.safetensors.index.json", MAPPING, "adapter")
VERSION = 6  # part of the key: raise it when training would give other weights, or the record other fields


def run_stage(
    model_dir: Path, out_dir: Path, settings: Settings, data: str, train: Callable[[Job], Row], facts: Row
) -> Row:
    """Train a stage, or return the record of the finished one; `reused` in the record says which.

    data: hash of the rows; train: trains a job and returns what it measured; facts: what the record holds of the rows.
    Raises `KyaraError` before anything is loaded when the settings are wrong or memory or disk do not suffice.
    Record: key, kind, parameters, facts, what `train` measured, memory, device, dtype, reason, weights (their hash).
    """
    out_dir, (device, dtype, reason) = Path(out_dir), choose_precision()
    settings.check()
    processes = world_size(settings.backend, settings.processes)
    parameters = settings.deciding() | {"dtype": dtype}
    key = stage_key(settings.kind, model_dir, f"{data}-{processes}", parameters)
    if record := finished(out_dir, key):
        log.info("%s: trained before with the same rows and settings; reused", out_dir)
        return {**record, "reused": True}
    clear_model(out_dir)
    shape = model_facts(model_dir)
    memory = check_memory(shape, parameters, device, processes)
    check_disk(shape, parameters, out_dir, bool(settings.save_steps or settings.stop_at))
    job = Job(model_dir, out_dir, out_dir / f"checkpoints-{key[:8]}", settings, dtype, processes)
    with quiet():
        measured = train(job)
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    record = {"key": key, "kind": settings.kind, "parameters": parameters, **facts, **measured}
    return finish(out_dir, record | {"memory": memory, "device": device, "dtype": dtype, "reason": reason})


def clear_model(out_dir: Path) -> None:
    """Remove the model that an earlier stage left in a folder, checkpoints aside.

    Its GGUF would be served for the new model, its shards and its vocabulary mapping loaded along with it.
    """
    for path in (path for pattern in MODEL_FILES for path in out_dir.glob(pattern)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def stage_key(kind: str, model_dir: Path, data: str, parameters: Row) -> str:
    """Return the hash of all that decides a stage's weights: kind, base weights, data, parameters."""
    body = json.dumps([VERSION, kind, weights_sha256(model_dir), data, parameters], sort_keys=True)
    return content_id(body, prefix="", n=32)


def finished(out_dir: Path, key: str) -> Row | None:
    """Return the record of a finished stage with this key whose weights are intact, else None."""
    record = read_json(out_dir / RECORD)
    if record.get("key") != key or not any(out_dir.glob("*.safetensors")):
        return None
    return record if record.get("weights") == weights_sha256(out_dir) else None


def finish(out_dir: Path, record: Row) -> Row:
    """Write `training.json` last and return it, with `reused` false."""
    record = {**record, "weights": weights_sha256(out_dir)}
    replace_text(out_dir / RECORD, json.dumps(record, ensure_ascii=False, indent=1))
    return {**record, "reused": False}


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
