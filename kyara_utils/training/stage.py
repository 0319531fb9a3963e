"""What every training stage shares: loading, saving, reuse of a finished stage, trainer arguments.

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

from kyara_utils.models.chat_templates import CHAT_TEMPLATE, TURN_END
from kyara_utils.models.packages import read_json, replace_text, sha256_of
from kyara_utils.runs.env import keep_soft_caps
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import content_id
from kyara_utils.training.precision import choose_precision

RECORD = "training.json"
VERSION = 3  # part of the key: raise it when training would give other weights


def weights_sha256(model_dir: Path) -> str:
    """Return one hash over the weight files of a model folder; `KyaraError` when there are none."""
    files = sorted(Path(model_dir).glob("*.safetensors"))
    if not files:
        raise KyaraError(f"no weights in {model_dir}; run the step that writes that model")
    return content_id(*[sha256_of(file) for file in files], prefix="", n=32)


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


def load_tokenizer(model_dir: Path):
    """Load a tokenizer from a folder; a Gemma tokenizer gets our chat template with its `generation` tags."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(model_dir)
    if TURN_END in tokenizer.get_vocab():
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def load_model(model_dir: Path, device: str = "", dtype: str = "float32", **options: Any):
    """Load a causal language model from safetensors, by default in fp32 on the device that `choose_precision` names.

    Trained weights stay fp32 and bf16 hardware trains them in mixed precision. The model comes from a folder, never
    from memory: TRL may reload its reference from there. `options` go to `from_pretrained`.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as noise

    noise.disable_progress_bar()
    keep_soft_caps()
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype, use_safetensors=True, **options)
    return model if "device_map" in options else model.to(device or choose_precision()[0])


def set_stops(model, tokenizer) -> None:
    """Let generation stop at `<eos>` and `<end_of_turn>`.

    The trainer aligns the stop tokens with the tokenizer's `<eos>` alone; a served model would then run on.
    """
    stops = [tokenizer.eos_token_id, tokenizer.get_vocab().get(TURN_END)]
    model.generation_config.eos_token_id = [stop for stop in stops if stop is not None]


def save_model(model, tokenizer, out_dir: Path, **options: Any) -> None:
    """Save weights (safetensors) and tokenizer, with the stop tokens in the generation config."""
    set_stops(model, tokenizer)
    try:
        model.save_pretrained(out_dir, **options)
        tokenizer.save_pretrained(out_dir)
    except Exception as error:  # safetensors raises its own type when a disk is full
        raise KyaraError(f"cannot save the model in {out_dir} ({error}); free or remount the disk") from error


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
