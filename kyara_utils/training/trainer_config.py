"""The arguments of TRL's trainers: our defaults, what a recipe changes, and what this package must decide itself.

Written against TRL 1.14.2 and PEFT 0.21.2. `trainer` may hold any field of SFTConfig or DPOConfig and `lora` any of
LoraConfig but the refused ones below: those are parameters of their own, or the surrounding code relies on them.
"""

from pathlib import Path
from typing import Any

from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training.fields import check_fields
from kyara_utils.training.losses import loss_arguments

WATCH = 0.1  # share of the steps between two looks at held-out pairs
FOLDER = "a step writes into its own folder"
MEASURED = "it is measured on the machine (models/precision.py)"
LAUNCH = "set the parameter backend; configurations lie in params/accelerate"
HELD_OUT = "the held-out loss is measured before and after, on whole rows"
CURVE = "the curves have one point a step"
UPLOAD = "nothing is uploaded while training; upload the finished folder"
TOKENS = "rows are token ids already, made with the model's own tokenizer and chat template"
LOADED = "the model is loaded before, from its own folder"
OWN = {  # fields that are parameters, or fields of `Settings`, by their names there
    "learning_rate": "learning_rate", "num_train_epochs": "epochs", "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation", "max_length": "max_length", "seed": "seed",
    "data_seed": "seed",
}  # fmt: skip
REFUSED = {name: f"set the parameter {ours}" for name, ours in OWN.items()} | {
    "output_dir": FOLDER, "resume_from_checkpoint": FOLDER, "save_strategy": "save_steps alone decides it",
    **dict.fromkeys(("bf16", "fp16", "use_cpu", "bf16_full_eval", "fp16_full_eval"), MEASURED),
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "accelerator_config", "parallelism_config", "local_rank",
                     "ddp_backend"), LAUNCH),
    **dict.fromkeys(("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "eval_packing", "do_eval",
                     "do_train", "do_predict", "load_best_model_at_end", "metric_for_best_model",
                     "per_device_eval_batch_size"), HELD_OUT),
    **dict.fromkeys(("logging_strategy", "logging_steps", "logging_nan_inf_filter", "disable_tqdm"), CURVE),
    **dict.fromkeys(("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy",
                     "hub_always_push", "hub_revision", "trackio_space_id", "trackio_bucket_id",
                     "trackio_static_space_id"), UPLOAD),
    **dict.fromkeys(("dataset_text_field", "dataset_kwargs", "chat_template_path", "truncation_mode", "eos_token",
                     "pad_token", "assistant_only_loss", "completion_only_loss", "remove_unused_columns"), TOKENS),
    **dict.fromkeys(("model_init_kwargs", "trust_remote_code"), LOADED),
}  # fmt: skip
DPO_REFUSED = {
    "beta": "set the parameter beta", "loss_type": "set the parameter loss", "loss_weights": "set sft_weight",
    **dict.fromkeys(("precompute_ref_log_probs", "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"),
                    "the reference is the model before the first step, computed once"),
}  # fmt: skip
ADAPTER = "adapters are made for a causal language model and merged after training"
EMBEDDINGS = "embedding and output head are one matrix in many models, and two trained copies drift apart"
LORA_REFUSED = {
    **dict.fromkeys(("task_type", "peft_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
                     "peft_version", "runtime_config", "megatron_config", "megatron_core"), ADAPTER),
    **dict.fromkeys(("modules_to_save", "trainable_token_indices", "ensure_weight_tying"), EMBEDDINGS),
    "layer_replication": "the merged model would have other layers than its base",
}  # fmt: skip
UNTRAINED = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")


def config_class(kind: str) -> type:
    """Return TRL's configuration of a kind of training: SFTConfig or DPOConfig."""
    import trl

    return {"sft": trl.SFTConfig, "dpo": trl.DPOConfig}[kind]


def check_trainer(kind: str, given: dict[str, Any]) -> None:
    """Raise `KyaraError` for a name or a value in `trainer` that TRL does not take, or that is not the user's."""
    if given:
        check_fields("trainer", given, config_class(kind), REFUSED | (DPO_REFUSED if kind == "dpo" else {}))


def check_lora(given: dict[str, Any], method: str) -> None:
    """Raise `KyaraError` for a name or a value in `lora` that PEFT does not take, and where there are no adapters."""
    if not given:
        return
    if method == "full":
        raise KyaraError(f"lora: {', '.join(given)} would change nothing with method full; set method to lora or qlora")
    from peft import LoraConfig

    check_fields("lora", given, LoraConfig, LORA_REFUSED)
    modules = given.get("target_modules") or []
    named = [modules] if isinstance(modules, str) else modules
    if hit := [name for name in named if name in UNTRAINED]:
        raise KyaraError(f"lora: target_modules may not hold {hit[0]}: {EMBEDDINGS}")


def trainer_config(settings, folder: Path, dtype: str, watched: bool = False):
    """Return TRL's configuration for `settings` (`SftSettings`, `DpoSettings`), with checkpoints in `folder`.

    watched: whether held-out pairs are looked at on the way, after every `WATCH` of the steps.

    Raises `KyaraError` with TRL's own words for values that do not go together.
    """
    arguments = _defaults(settings.kind) | settings.trainer | _decided(settings, folder, dtype)
    arguments |= {"eval_strategy": "steps", "eval_steps": WATCH} if watched else {}
    try:
        return config_class(settings.kind)(**arguments)
    except (ValueError, TypeError) as error:
        raise KyaraError(f"trainer: {' '.join(str(error).split())}; correct it") from error


def _defaults(kind: str) -> dict[str, Any]:
    """Ours where they differ from TRL's; a warm-up below 1 is a share of the steps."""
    cpu = choose_precision()[0] == "cpu"
    found = {
        "warmup_steps": 0.1, "lr_scheduler_type": "cosine", "gradient_checkpointing": not cpu,
        "dataloader_pin_memory": not cpu, "save_total_limit": 2, "report_to": "none",
    }  # fmt: skip
    return found | ({"packing": True, "packing_strategy": "bfd"} if kind == "sft" else {})


def _decided(settings, folder: Path, dtype: str) -> dict[str, Any]:
    """What no recipe may change. The trainer's own filter would log a NaN loss as the mean of the losses before it."""
    values = settings.deciding()
    found = {theirs: values[ours] for theirs, ours in OWN.items()}
    found |= {
        "output_dir": str(folder), "use_cpu": choose_precision()[0] == "cpu", "bf16": dtype == "bfloat16",
        "logging_steps": 1, "logging_nan_inf_filter": False, "disable_tqdm": True,
        "save_strategy": "steps" if settings.save_steps else "no", "save_steps": settings.save_steps or 500,
        "per_device_eval_batch_size": 1,  # so that the mean over batches is the mean over pairs
    }  # fmt: skip
    if settings.kind == "sft":
        return found
    found |= loss_arguments(settings.loss, settings.sft_weight) | {"beta": settings.beta}
    place = {"device_map": None} if settings.backend == "fsdp2" else None  # of TRL's copy for the reference
    return found | {"precompute_ref_log_probs": True, "model_init_kwargs": place}
