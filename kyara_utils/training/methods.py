"""Which weights are trained, and by which code: full, LoRA or QLoRA, with TRL and PEFT or with Unsloth.

Whatever the choice, a stage leaves one whole model: adapters are merged into the base weights, whose embedding and
output head stay one matrix. LoRA never trains the embeddings, since two copies of a tied matrix drift apart
(https://github.com/huggingface/peft/issues/2018).
"""

import os
import shutil
from pathlib import Path

from kyara_utils.models import loading
from kyara_utils.models.bases import MAPPING
from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import read_json
from kyara_utils.training.memory import RANK

METHODS = ("full", "lora", "qlora")
BACKENDS = ("trl", "unsloth")
LORA = {"r": RANK, "lora_alpha": RANK}
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]  # all but the tied embedding


def check_method(method: str, backend: str, device: str) -> None:
    """Raise `KyaraError` for an unknown or impossible combination, before anything is loaded."""
    if method not in METHODS:
        raise KyaraError(f"method: unknown value {method!r}; use one of {', '.join(METHODS)}")
    if backend == "unsloth":
        need("unsloth", "backend unsloth", "pip install '.[gpu]', or set backend to trl")
        if device != "cuda":
            raise KyaraError("backend unsloth needs a CUDA device; set backend to trl")
    if method == "qlora":
        need("bitsandbytes", "method qlora", "pip install '.[gpu]', or set method to lora")


def packs(backend: str, model_dir: Path) -> bool:
    """Whether a back end packs rows of this model: Unsloth (2026.10) leaves Gemma 2 unpacked, with a warning alone."""
    return backend != "unsloth" or read_json(Path(model_dir) / "config.json").get("model_type") != "gemma2"


def need(package: str, what: str, fix: str) -> None:
    """Raise `KyaraError` when an optional package is not installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise KyaraError(f"{what} needs the package {package}, which is not installed; {fix}")


def load_for_training(model_dir: Path, settings, dtype: str):
    """Return the model of a folder ready for `settings` (`settings.Settings`), computing in `dtype`."""
    if settings.backend == "unsloth":
        return _load_unsloth(model_dir, settings, dtype)
    if settings.method == "full":
        return loading.load_model(model_dir)
    return _with_adapters(_load_base(model_dir, settings.method, dtype), settings)


def _load_base(model_dir: Path, method: str, dtype: str):
    if method == "lora":
        return loading.load_model(model_dir, dtype=dtype)  # frozen weights need no fp32 copy
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )  # fmt: skip
    on_gpu = choose_precision()[0] == "cuda"
    place = torch.cuda.current_device() if on_gpu else "cpu"
    model = loading.load_model(model_dir, quantization_config=quantised, device_map={"": place})
    if not on_gpu:
        _keep_trainable(model)
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # the trainer's arguments decide


def _keep_trainable(model) -> None:
    """Keep a 4-bit model on a CPU one that can be trained.

    bitsandbytes 0.50 repacks a layer at its first evaluation and then computes wrong gradients, and it quantises rows
    whose length is no multiple of its block wrongly, both without a word.
    """
    for name, layer in model.named_modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
            if layer.in_features % 64:
                raise KyaraError(f"method qlora on a CPU: {name} has {layer.in_features} inputs, no multiple of 64")


def _with_adapters(model, settings):
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(settings.seed)  # the trainer seeds later than the adapters draw their first weights
    wanted = LORA | {"target_modules": _layers(model)} | settings.lora
    try:
        model = get_peft_model(model, LoraConfig(**wanted, task_type="CAUSAL_LM"))
    except (ValueError, TypeError) as error:
        raise KyaraError(f"lora: {' '.join(str(error).split())[:300]}; correct it") from error
    model.enable_input_require_grads()  # checkpointed activations would otherwise carry no gradient
    return model


def _layers(model) -> list[str] | str:
    """The layers that get adapters: `LAYERS` by name where the model has them, else every linear one but the head."""
    found = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return LAYERS if found.issuperset(LAYERS) else "all-linear"


def _load_unsloth(model_dir: Path, settings, dtype: str):
    import torch

    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_dir() / "unsloth"))  # else in the current folder
    from unsloth import FastLanguageModel

    full = settings.method == "full"
    model, _ = FastLanguageModel.from_pretrained(
        model_name=str(model_dir), max_seq_length=settings.max_length, dtype=getattr(torch, dtype),
        load_in_4bit=settings.method == "qlora", full_finetuning=full,
        **({"float32_mixed_precision": True} if full and torch.cuda.is_available() else {}),  # else bf16 weights
    )  # fmt: skip
    if full:
        return model
    wanted = LORA | {"lora_dropout": 0, "target_modules": LAYERS} | settings.lora
    return FastLanguageModel.get_peft_model(
        model, **wanted, use_gradient_checkpointing="unsloth", random_state=settings.seed
    )


def save_trained(trainer, tokenizer, model_dir: Path, out_dir: Path, method: str) -> None:
    """Write the trained model whole to `out_dir`, from every process of a launch; adapters are merged first.

    QLoRA's adapters are merged into the unquantised weights of `model_dir`: the 4-bit ones are a rounding of them.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    model, weights = trainer.accelerator.unwrap_model(trainer.model), None
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)  # every process gives its shard
    if trainer.is_world_process_zero():
        if method != "full":
            model.save_pretrained(out_dir / "adapter", state_dict=weights)
            unset_hf_deepspeed_config()  # ZeRO-3 would wait for the other processes to load the base with this one
            model, weights = merged(model_dir, out_dir / "adapter"), None
        for name in model.all_tied_weights_keys if weights else ():  # gathered, a tied head is a second copy
            weights.pop(name, None)
        loading.save_model(model, tokenizer, out_dir, state_dict=weights)
        if (mapping := Path(model_dir) / MAPPING).is_file():
            shutil.copyfile(mapping, out_dir / MAPPING)  # a trimmed vocabulary stays restorable
    trainer.accelerator.wait_for_everyone()


def merged(model_dir: Path, adapter: Path):
    """Return the model of `model_dir` in fp32 on the CPU with an adapter folder merged in; the tie is checked."""
    from peft import PeftModel

    base = loading.load_model(model_dir, device="cpu")
    model = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    if base.config.tie_word_embeddings:
        head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        if head.data_ptr() != embedding.data_ptr():
            raise KyaraError(f"{adapter} unties embedding and output head; train it without the embedding layers")
    return model
