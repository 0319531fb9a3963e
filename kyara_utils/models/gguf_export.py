"""A trained Gemma 2 or Gemma 3 (text) as a GGUF that llama.cpp, Ollama and the embedded server run as a chat model.

Everything comes from the transformers folder, so a model from the Hub exports as one from a GGUF does. Names and
metadata are those of llama.cpp's `convert_hf_to_gguf.py`, classes Gemma2Model and Gemma3Model.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kyara_utils.models.chat_templates import INFERENCE_TEMPLATE, TURN_END
from kyara_utils.models.gguf_file import Field, Tensor, write_gguf
from kyara_utils.models.gguf_import import LOCAL_ROPE_BASE, PARTS, TOP
from kyara_utils.models.gguf_tokenizer import BYTE, CONTROL, NORMAL, SPACE, UNUSED, USER
from kyara_utils.runs.errors import KyaraError

FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}  # llama.cpp's LLAMA_FTYPE numbers
ARCHITECTURES = {"gemma2": ("gemma2", 2), "gemma3_text": ("gemma3", 6)}  # name, one global layer in so many
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
NUMBERS = {
    "context_length": "max_position_embeddings", "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "attention.value_length": "head_dim",
    "attention.sliding_window": "sliding_window",
}  # fmt: skip
CAPS = {"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping"}
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def export_gguf(model_dir: Path, out: Path, dtype: str = "q8_0") -> Path:
    """Write the model of a transformers folder as one GGUF file; return `out`.

    `dtype` (q8_0, f16, f32) holds for matrices; norms stay fp32. Raises `KyaraError` for another architecture, for
    one that llama.cpp would compute otherwise, and for a folder without weights or a fast tokenizer.
    """
    from transformers import AutoConfig

    if dtype not in FILE_TYPES:
        raise KyaraError(f"unknown dtype {dtype!r}; use one of {', '.join(FILE_TYPES)}")
    model_dir = Path(model_dir)
    config = AutoConfig.from_pretrained(model_dir)
    weights = _weights(model_dir)
    check_exportable(config, set(weights), model_dir)
    fields = _model_fields(config, dtype, model_dir.name) | _tokenizer_fields(model_dir, config)
    tensors = [_encode(name, weights[name](), dtype) for name in sorted(weights) if name != "lm_head.weight"]
    return write_gguf(out, fields, tensors)


def exportable(model_dir: Path) -> bool:
    """Whether `export_gguf` knows this model's architecture."""
    config = json.loads((Path(model_dir) / "config.json").read_text(encoding="utf-8"))
    return config.get("model_type") in ARCHITECTURES


def check_exportable(config, names: set[str], folder: Path) -> None:
    """Raise `KyaraError` where a GGUF cannot say what transformers computes."""
    if config.model_type not in ARCHITECTURES:
        raise KyaraError(f"{folder} is a {config.model_type} model; a GGUF is written for text models of Gemma 2 and 3")
    every, layers = ARCHITECTURES[config.model_type][1], range(1, config.num_hidden_layers + 1)
    pattern = ["sliding_attention" if number % every else "full_attention" for number in layers]
    ropes = _ropes(config)
    for right, what in (
        (list(config.layer_types) == pattern, f"its layers do not alternate 1 in {every}"),
        (config.query_pre_attn_scalar == config.head_dim, "its queries are not scaled by the head's size"),
        (all(rope["rope_type"] == "default" for rope in ropes.values()), "its rotary embedding is scaled"),
        (ropes.get("sliding_attention", {}).get("rope_theta", LOCAL_ROPE_BASE) == LOCAL_ROPE_BASE, "its local base"),
        (config.tie_word_embeddings or "lm_head.weight" not in names, "its output matrix is not the embedding"),
    ):
        if not right:
            raise KyaraError(f"{folder}: {what}, which llama.cpp assumes for this architecture; serve it by vLLM")


def _ropes(config) -> dict[str, dict[str, Any]]:
    """Rotary parameters by layer type; Gemma 2 has one set, under "full_attention" here."""
    found = config.rope_parameters
    return {"full_attention": found} if "rope_type" in found else found


def _weights(folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    """A reader of each tensor, as float32, so that one matrix at a time is unpacked."""
    from safetensors import safe_open

    readers = {}
    for file in sorted(folder.glob("*.safetensors")):
        opened = safe_open(file, framework="pt")
        for name in opened.keys():  # noqa: SIM118  no dict
            readers[name] = lambda opened=opened, name=name: opened.get_tensor(name).float().numpy()
    if not readers:
        raise KyaraError(f"no weights in {folder}; run the step that writes that model")
    return readers


def gguf_name(name: str) -> str:
    """Return the GGUF name of a transformers tensor of Gemma (…q_proj.weight → `blk.0.attn_q.weight`)."""
    parts = name.removeprefix("model.").removesuffix(".weight").split(".")
    tops, inner = ({theirs: ours for ours, theirs in table.items()} for table in (TOP, PARTS))
    if parts[0] in tops:
        return f"{tops[parts[0]]}.weight"
    if parts[0] == "layers" and ".".join(parts[2:]) in inner:
        return f"blk.{parts[1]}.{inner['.'.join(parts[2:])]}.weight"
    raise KyaraError(f"{name} is no tensor of Gemma 2 or 3; merge adapters first, export text models only")


def _encode(name: str, weight: np.ndarray, dtype: str) -> Tensor:
    from gguf import GGMLQuantizationType, quantize

    name = gguf_name(name)
    if name.endswith("norm.weight"):  # transformers keeps w of (1 + w)
        return Tensor(name, 0, (weight + 1).astype(np.float32).view(np.uint8))
    kind = GGMLQuantizationType[dtype.upper()]
    return Tensor(name, int(kind), quantize(weight, kind).view(np.uint8))


def _model_fields(config, dtype: str, name: str) -> dict[str, Field]:
    architecture = ARCHITECTURES[config.model_type][0]
    found = {key: Field(UINT32, int(getattr(config, attribute))) for key, attribute in NUMBERS.items()}
    caps = {key: getattr(config, attribute, None) for key, attribute in CAPS.items()}
    found |= {key: Field(FLOAT32, float(cap)) for key, cap in caps.items() if cap is not None}
    found["attention.layer_norm_rms_epsilon"] = Field(FLOAT32, float(config.rms_norm_eps))
    found["rope.freq_base"] = Field(FLOAT32, float(_ropes(config)["full_attention"]["rope_theta"]))
    general = {
        "architecture": Field(STRING, architecture), "type": Field(STRING, "model"), "name": Field(STRING, name),
        "file_type": Field(UINT32, FILE_TYPES[dtype]), "quantization_version": Field(UINT32, 2),
    }  # fmt: skip
    return {f"general.{key}": field for key, field in general.items()} | {
        f"{architecture}.{key}": field for key, field in found.items()
    }


def _tokenizer_fields(folder: Path, config) -> dict[str, Field]:
    """The vocabulary as SentencePiece's: llama.cpp merges the best-scored pair first, so a score is a merge's rank."""
    texts, scores, kinds = vocabulary(folder, config.vocab_size)
    ids = {text: number for number, text in enumerate(texts)}
    special = {"bos": "<bos>", "eos": "<eos>", "unknown": "<unk>", "padding": "<pad>"}
    found = {f"{name}_token_id": Field(UINT32, ids[text]) for name, text in special.items()}
    found |= {f"add_{name}": Field(BOOL, name == "bos_token") for name in ("bos_token", "eos_token", "space_prefix")}
    found |= {
        "model": Field(STRING, "llama"), "pre": Field(STRING, "default"),
        "tokens": Field(ARRAY, texts, STRING), "scores": Field(ARRAY, scores, FLOAT32),
        "token_type": Field(ARRAY, kinds, INT32), "eot_token_id": Field(UINT32, ids[TURN_END]),
    }  # fmt: skip
    found = {f"tokenizer.ggml.{key}": field for key, field in found.items()}
    return found | {"tokenizer.chat_template": Field(STRING, INFERENCE_TEMPLATE)}


def vocabulary(folder: Path, rows: int) -> tuple[list[str], list[float], list[int]]:
    """Return (texts, scores, types) of the ids 0 … rows - 1 from `tokenizer.json`; rows without a token are unused.

    Tokens beyond the embedding (Gemma 3 text models name an image token that has no row) are left out.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise KyaraError(f"{folder} has no tokenizer.json; save the model with its fast tokenizer")
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["model"]["type"] != "BPE":
        raise KyaraError(f"{path} is a {content['model']['type']} tokenizer; Gemma's is BPE")
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(content["model"]["merges"]):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    texts, scores, kinds = ([f"[PAD{n}]" for n in range(rows)], [-1000.0] * rows, [UNUSED] * rows)
    for text, number in content["model"]["vocab"].items():
        if number < rows:
            byte = bool(BYTE_TOKEN.fullmatch(text))
            texts[number], kinds[number] = text, BYTE if byte else NORMAL
            scores[number] = 0.0 if byte else -float(ranks.get(text, len(ranks)))
    for token in content["added_tokens"]:
        if (number := token["id"]) < rows:
            kinds[number], scores[number] = (CONTROL if token["special"] else USER), -1000.0
            texts[number] = token["content"] if token["special"] else token["content"].replace(SPACE, " ")
    return texts, scores, kinds
