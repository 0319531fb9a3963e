"""A Gemma GGUF with a trimmed vocabulary: the embedding rows of the kept tokens, byte for byte, under new ids.

`vocabulary_choice` says which tokens are kept, `vocabulary_trimming` does the same to folders of transformers.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from kyara_utils.models.gguf_file import Field, Gguf, Tensor, read_gguf, write_gguf
from kyara_utils.models.packages import gemma_gguf
from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import read_json, replace_text, sha256_of

VERSION = 1  # part of the cache key: raise it when the trimmed file would differ
EMBEDDING = "token_embd.weight"
TEMPLATE = "tokenizer.chat_template"
PER_TOKEN = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")


def trim_gguf(source: Path, ids: list[int], target: Path, chat_template: str | None = None) -> Path:
    """Write `target` with only the tokens `ids` (ascending); new id = position in `ids`.

    Embedding rows keep their quantised bytes, so nothing is requantised. Every `*_token_id` is remapped, the
    rest is copied; `chat_template` (Jinja) is added when given. Raises `KyaraError` for ids that are not
    ascending, not in the file, or lack a special token the file names.
    """
    gguf = read_gguf(source)
    total = len(gguf.need(PER_TOKEN[0]))
    if list(ids) != sorted(set(ids)) or not ids or ids[0] < 0 or ids[-1] >= total:
        raise KyaraError(f"token ids must be ascending, distinct and below {total}; make them with kept_ids")
    fields = _remap(gguf, ids)
    if chat_template is not None:
        fields[TEMPLATE] = Field(8, chat_template)
    return write_gguf(target, fields, [_slice(tensor, ids) for tensor in gguf.tensors])


def _remap(gguf: Gguf, ids: list[int]) -> dict[str, Field]:
    place, fields = {old: new for new, old in enumerate(ids)}, {}
    for key, field in gguf.fields.items():
        value = field.value
        if key in PER_TOKEN:
            value = [value[number] for number in ids]
        elif key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            if value not in place:
                raise KyaraError(f"{key} = {value} is not among the kept ids; make them with kept_ids")
            value = place[value]
        fields[key] = Field(field.kind, value, field.item)
    return fields


def _slice(tensor: Tensor, ids: list[int]) -> Tensor:
    per_token = tensor.name in (EMBEDDING, "output.weight")
    return Tensor(tensor.name, tensor.kind, tensor.rows[np.asarray(ids)]) if per_token else tensor


def trimmed_gemma(ids: list[int]) -> Path:
    """Return the embedded Gemma with only the tokens `ids`, made once and kept in the cache folder."""
    source = gemma_gguf()
    stamp = json.dumps([VERSION, sha256_of(source), list(ids)])
    target = cache_dir() / "models" / f"gemma-trimmed-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.gguf"
    note = target.with_suffix(".json")
    if target.is_file() and read_json(note).get("sha256") == sha256_of(target):
        return target
    trim_gguf(source, ids, target)
    replace_text(note, json.dumps({"sha256": sha256_of(target), "tokens": len(ids)}))
    return target
