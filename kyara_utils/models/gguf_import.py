"""A GGUF of Gemma 2 or 3 as a transformers folder, without losing a bit; the way back is `gguf_export`.

transformers' own GGUF loader takes minutes for the embedded model, reads its tokenizer wrongly in 5.17 and
leaves a model that refuses to be saved. The mapping below is llama.cpp's (`convert_hf_to_gguf.py`, classes Gemma2Model
and Gemma3Model): names differ, and GGUF stores 1 + w for the RMS norms.
"""

from pathlib import Path

import numpy as np

from kyara_utils.models.chat_templates import CHAT_TEMPLATE, TURN_END
from kyara_utils.models.gguf_file import Gguf, read_gguf
from kyara_utils.models.gguf_tokenizer import tokenizer_of
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing

PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
TOP = {"token_embd": "embed_tokens", "output_norm": "norm"}
LOCAL_ROPE_BASE = 10_000.0  # of Gemma 2, and of Gemma 3's sliding layers, where a GGUF need not name it


def transformers_name(name: str) -> str:
    """Return the transformers name of a GGUF tensor of Gemma (`blk.0.attn_q.weight` → …q_proj.weight)."""
    parts = name.split(".")
    if parts[0] == "blk" and parts[2] in PARTS:
        return f"model.layers.{parts[1]}.{PARTS[parts[2]]}.weight"
    if parts[0] in TOP:
        return f"model.{TOP[parts[0]]}.weight"
    raise KyaraError(f"{name} is no tensor of Gemma 2 or 3; convert their text models only")


def gguf_to_transformers(gguf: Path, out_dir: Path) -> Path:
    """Write a GGUF of Gemma 2 or 3 as a transformers folder: fp32 weights, configuration, tokenizer, chat template.

    The folder appears under its name when it is complete. Raises `KyaraError` for another architecture.
    """
    source, out_dir = read_gguf(gguf), Path(out_dir)
    if source.need("general.architecture") not in ("gemma2", "gemma3"):
        raise KyaraError(f"{gguf} is a {source.get('general.architecture')} model; gemma2 and gemma3 are converted")
    with replacing(out_dir) as temporary:
        temporary.mkdir()
        _save_weights(source, temporary)
        _save_settings(source, gguf, temporary)
    return out_dir


def _save_weights(source: Gguf, folder: Path) -> None:
    from gguf import GGMLQuantizationType, dequantize
    from safetensors.numpy import save_file

    state = {}
    for tensor in source.tensors:
        kind = GGMLQuantizationType(tensor.kind)
        rows = tensor.rows.view(np.float32) if kind == GGMLQuantizationType.F32 else tensor.rows
        weight = np.ascontiguousarray(dequantize(rows, kind), dtype=np.float32)
        state[transformers_name(tensor.name)] = weight - 1 if tensor.name.endswith("norm.weight") else weight
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _save_settings(source: Gguf, gguf: Path, folder: Path) -> None:
    from transformers import GenerationConfig

    tokenizer = wrap_tokenizer(gguf)
    tokenizer.save_pretrained(folder)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    gemma_config(source, **ids).save_pretrained(folder)
    ids["eos_token_id"] = [ids["eos_token_id"], tokenizer.convert_tokens_to_ids(TURN_END)]
    GenerationConfig(**ids).save_pretrained(folder)


def wrap_tokenizer(gguf: Path):
    """Return the GGUF's tokenizer as transformers knows it, with our chat template."""
    from transformers import PreTrainedTokenizerFast

    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(gguf), chat_template=CHAT_TEMPLATE, padding_side="left",
        clean_up_tokenization_spaces=False, **names,
    )  # fmt: skip


def gemma_config(source: Gguf, **token_ids: int):
    """Return the `Gemma2Config` or `Gemma3TextConfig` described by a GGUF's metadata.

    What GGUF leaves to the reader is what llama.cpp assumes: queries scaled by the head's size, the order of local and
    global layers, the rotary base of Gemma 3's local ones.
    """
    from transformers import Gemma2Config, Gemma3TextConfig

    family = source.need("general.architecture")

    def need(name: str):
        return source.need(f"{family}.{name}")

    shared = dict(
        dtype="float32", tie_word_embeddings=True, vocab_size=len(source.need("tokenizer.ggml.tokens")),
        hidden_size=need("embedding_length"), intermediate_size=need("feed_forward_length"),
        num_hidden_layers=need("block_count"), num_attention_heads=need("attention.head_count"),
        num_key_value_heads=need("attention.head_count_kv"), head_dim=need("attention.key_length"),
        query_pre_attn_scalar=need("attention.key_length"), sliding_window=need("attention.sliding_window"),
        max_position_embeddings=need("context_length"), rms_norm_eps=need("attention.layer_norm_rms_epsilon"),
        **token_ids,
    )  # fmt: skip
    if family == "gemma2":
        caps = {name: source.get(f"gemma2.{name}") for name in ("attn_logit_softcapping", "final_logit_softcapping")}
        rope = {"rope_type": "default", "rope_theta": source.get("gemma2.rope.freq_base", LOCAL_ROPE_BASE)}
        return Gemma2Config(architectures=["Gemma2ForCausalLM"], rope_parameters=rope, **caps, **shared)
    ropes = {
        "full_attention": {"rope_type": "default", "rope_theta": need("rope.freq_base")},
        "sliding_attention": {"rope_type": "default", "rope_theta": LOCAL_ROPE_BASE},
    }
    return Gemma3TextConfig(architectures=["Gemma3ForCausalLM"], rope_parameters=ropes, **shared)
