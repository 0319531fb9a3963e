"""Vocabulary trimming of whole models to what given texts need, and the way back: Gemma 2 and 3, folders and GGUF.

The trimmed model tokenises the texts as the whole one does, which is checked before it is written, and the logits of
kept tokens do not change. `vocabulary.json` beside it maps its ids to the whole model's, so that after training it can
be carried back into the whole table. `trim` is the command.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kyara_utils.models.bases import MAPPING
from kyara_utils.models.gguf_export import exportable, vocabulary
from kyara_utils.models.gguf_file import read_gguf
from kyara_utils.models.gguf_tokenizer import Pieces, tokenizer_of
from kyara_utils.models.gguf_trimming import trim_gguf
from kyara_utils.models.loading import weights_sha256
from kyara_utils.models.vocabulary_choice import Used, choose_ids, kept_ids
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replace_text, replacing, sha256_of

PER_TOKEN = ("embed_tokens.weight", "lm_head.weight")  # ends of the names of matrices with a row for each token
COPIED = ("special_tokens_map.json", "chat_template.jinja")
SPECIAL = {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>"}


def trim_vocabulary(
    source: Path, out: Path, texts: Iterable[str], size: int = 20480, script: str = "zh-Hant"
) -> dict[str, Any]:
    """Write `source` (a folder of Gemma 2 or 3, or its GGUF) to `out` with `size` tokens; return the mapping.

    Mapping, also in `vocabulary.json` (beside a GGUF under its name): source, source_sha256, full_size, ids (of the
    whole model, by the new id), texts, tokens. `script`: `zh-Hant` keeps Simplified-only characters out, `zh` does not.
    Raises `KyaraError` for a size that the texts exceed, and when any text would be tokenised otherwise.
    """
    texts, source, out = sorted(set(texts)), Path(source), Path(out)
    if source.is_file():
        ids, full = kept_ids(source, texts, size, script), len(read_gguf(source).need("tokenizer.ggml.tokens"))
        mapping = _mapping(source.name, sha256_of(source), full, ids)
        with replacing(out) as temporary:
            trim_gguf(source, ids, temporary)
            mapping |= _compared(tokenizer_of(source), tokenizer_of(temporary), ids, texts)
        replace_text(out.with_suffix(f".{MAPPING}"), json.dumps(mapping))
        return mapping
    tokenizer, pieces = _tokenizer(source), pieces_of_folder(source)
    ids = choose_ids(pieces, Used(tokenizer, texts), size, script)
    mapping = _mapping(source.name, weights_sha256(source), len(pieces.texts), ids)
    with replacing(out) as temporary:
        _write_trimmed(source, temporary, ids)
        mapping |= _compared(tokenizer, _tokenizer(temporary), ids, texts)
        (temporary / MAPPING).write_text(json.dumps(mapping), encoding="utf-8")
    return mapping


def _mapping(name: str, digest: str, full: int, ids: list[int]) -> dict[str, Any]:
    return {"source": name, "source_sha256": digest, "full_size": full, "ids": ids}


def _tokenizer(folder: Path):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def pieces_of_folder(folder: Path) -> Pieces:
    """Return the vocabulary of a transformers folder, one piece for each row of its embedding."""
    rows = _config(folder)["vocab_size"]
    texts, scores, kinds = vocabulary(folder, rows)
    ids = {text: number for number, text in enumerate(texts)}
    return Pieces(texts, scores, kinds, {name: ids[text] for name, text in SPECIAL.items()})


def _config(folder: Path) -> dict[str, Any]:
    if not exportable(folder):
        raise KyaraError(f"{folder} is no text model of Gemma 2 or 3; only those can be trimmed")
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _compared(whole, small, ids: list[int], texts: list[str]) -> dict[str, int]:
    """Raise unless both tokenizers read every text alike; return how much was compared."""
    tokens = 0
    for text in texts:
        wanted, found = whole.encode(text).ids, [ids[number] for number in small.encode(text).ids]
        if wanted != found:
            at = next((n for n, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), 0)
            raise KyaraError(f"the trimmed vocabulary reads a text otherwise from its token {at} on: {text[:40]!r}…")
        tokens += len(wanted)
    return {"texts": len(texts), "tokens": tokens}


def _write_trimmed(source: Path, folder: Path, ids: list[int]) -> None:
    place = {old: new for new, old in enumerate(ids)}
    folder.mkdir(parents=True)
    content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(_trimmed_tokenizer(content, place), ensure_ascii=False), "utf-8")
    _copy_settings(source, folder, place, len(ids))
    _copy_weights(source, folder, lambda _, weight: weight[ids])


def _trimmed_tokenizer(content: dict[str, Any], place: dict[int, int]) -> dict[str, Any]:
    """`tokenizer.json` with the kept tokens, the merges among them, and their new ids."""
    model = content["model"]
    kept = {text: place[number] for text, number in model["vocab"].items() if number in place}
    merges = [merge for merge in model["merges"] if _parts(merge) <= kept.keys()]
    added = [{**token, "id": place[token["id"]]} for token in content["added_tokens"] if token["id"] in place]
    body = {**content, "model": {**model, "vocab": kept, "merges": merges}, "added_tokens": added}
    return body | {"post_processor": _renumbered(content.get("post_processor"), place)}


def _parts(merge: str | list[str]) -> set[str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return {left, right, left + right}


def _renumbered(node: Any, place: dict[int, int]) -> Any:
    """A post-processor with new ids: every list called `ids` in it."""
    if isinstance(node, list):
        return [_renumbered(item, place) for item in node]
    if not isinstance(node, dict):
        return node
    return {k: [place[i] for i in v] if k == "ids" else _renumbered(v, place) for k, v in node.items()}


def _copy_settings(source: Path, folder: Path, place: dict[int, int], size: int) -> None:
    """Configurations with renumbered `*_token_id`; files that name ids in other ways are left behind."""
    for name in ("config.json", "generation_config.json"):
        if (source / name).is_file():
            content = json.loads((source / name).read_text(encoding="utf-8"))
            content = {key: _moved(key, value, place) for key, value in content.items()}
            content |= {"vocab_size": size} if "vocab_size" in content else {}
            (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    content = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    content.pop("added_tokens_decoder", None)  # tokenizer.json holds them too
    (folder / "tokenizer_config.json").write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _moved(key: str, value: Any, place: dict[int, int]) -> Any:
    if not key.endswith("_token_id") or value is None:
        return value
    if lost := [n for n in (value if isinstance(value, list) else [value]) if n not in place]:
        raise KyaraError(f"{key} {lost[0]} is not among the kept tokens; this model's special tokens are not Gemma's")
    return [place[n] for n in value] if isinstance(value, list) else place[value]


def _copy_weights(source: Path, folder: Path, change: Callable) -> None:
    """Write every safetensors file of `source` to `folder`, matrices of `PER_TOKEN` by `change(name, matrix)`.

    One file at a time is in memory.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    total, places = 0, {}
    for file in sorted(source.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            state = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118  no dict
        state = {name: change(name, w).contiguous() if name.endswith(PER_TOKEN) else w for name, w in state.items()}
        save_file(state, folder / file.name, metadata={"format": "pt"})
        total += sum(weight.nbytes for weight in state.values())
        places |= dict.fromkeys(state, file.name)
    if len(set(places.values())) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def restore_vocabulary(trained: Path, source: Path, out: Path, mapping: dict[str, Any] | None = None) -> Path:
    """Write a trimmed (and perhaps trained) folder with the whole vocabulary of `source` again; return `out`.

    Kept rows and all other weights are those of `trained`, the rows that were trimmed away those of `source`, in the
    numbers of `trained`. `mapping`: what `trim_vocabulary` returned, by default `vocabulary.json` in `trained`.
    """
    trained, source, out = Path(trained), Path(source), Path(out)
    content = mapping or read_mapping(trained)
    ids, rows = content["ids"], _config(source)["vocab_size"]
    if len(ids) != _config(trained)["vocab_size"] or rows != content["full_size"]:
        raise KyaraError(f"{trained}, its mapping and {source} do not belong together; name the model that was trimmed")
    with replacing(out) as temporary:
        temporary.mkdir(parents=True)
        _copy_settings(trained, temporary, dict(enumerate(ids)), rows)
        shutil.copyfile(source / "tokenizer.json", temporary / "tokenizer.json")
        _copy_weights(trained, temporary, lambda name, weight: _filled(name, weight, source, ids))
    return out


def _filled(name: str, kept, source: Path, ids: list[int]):
    from safetensors import safe_open

    for file in sorted(source.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            if name in weights.keys():  # noqa: SIM118  no dict
                whole = weights.get_tensor(name).to(kept.dtype)
                whole[ids] = kept
                return whole
    raise KyaraError(f"{source} has no {name}; name the model that was trimmed")


def read_mapping(folder: Path) -> dict[str, Any]:
    """Return the mapping that `trim_vocabulary` left in a folder."""
    path = Path(folder) / MAPPING
    if not path.is_file():
        raise KyaraError(f"{folder} has no {MAPPING}; give --mapping, such as step 01's {MAPPING}")
    return json.loads(path.read_text(encoding="utf-8"))
