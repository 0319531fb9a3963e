"""A model folder in transformers: loaded in the right numbers, saved with the tokens at which it stops, hashed."""

from pathlib import Path
from typing import Any

from kyara_utils.models.chat_templates import CHAT_TEMPLATE, TURN_END, turn_end
from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.env import keep_soft_caps
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import sha256_of
from kyara_utils.runs.tables import content_id


def weights_sha256(model_dir: Path) -> str:
    """Return one hash over the weight files of a model folder; `KyaraError` when there are none."""
    files = sorted(Path(model_dir).glob("*.safetensors"))
    if not files:
        raise KyaraError(f"no weights in {model_dir}; run the step that writes that model")
    return content_id(*[sha256_of(file) for file in files], prefix="", n=32)


def load_tokenizer(model_dir: Path):
    """Load a tokenizer from a folder; Gemma's gets our chat template, those of other families keep their own.

    Raises `KyaraError` where there is none: a turn needs a beginning and an end that the model can learn.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(model_dir)
    if TURN_END in tokenizer.get_vocab():
        tokenizer.chat_template = CHAT_TEMPLATE
    if not tokenizer.chat_template:
        raise KyaraError(f"{model_dir} has no chat template; add a chat_template.jinja, or take an instruct model")
    if tokenizer.pad_token is None:  # padding carries no loss, so the token that ends a text serves
        tokenizer.pad_token = tokenizer.eos_token
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
    """Let generation stop at the end of a text and at the end of a turn.

    The trainer aligns the stop tokens with the tokenizer's end of text alone; a served model would then run on.
    """
    stops = dict.fromkeys((tokenizer.eos_token_id, turn_end(tokenizer)))
    model.generation_config.eos_token_id = [stop for stop in stops if stop is not None]


def save_model(model, tokenizer, out_dir: Path, **options: Any) -> None:
    """Save weights (safetensors) and tokenizer, with the stop tokens in the generation config."""
    set_stops(model, tokenizer)
    try:
        model.save_pretrained(out_dir, **options)
        tokenizer.save_pretrained(out_dir)
    except Exception as error:  # safetensors raises its own type when a disk is full
        raise KyaraError(f"cannot save the model in {out_dir} ({error}); free or remount the disk") from error
