"""Where a base model comes from: the pip package, a GGUF file, a folder, or the Hugging Face Hub.

Each ends as a transformers folder with safetensors. Pickled weights are refused: loading them runs code.
"""

import json
import re
import shutil
from pathlib import Path

from kyara_utils.models.gguf_file import read_gguf
from kyara_utils.models.gguf_import import gguf_to_transformers
from kyara_utils.models.gguf_trimming import trimmed_gemma
from kyara_utils.models.packages import gemma_gguf
from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import read_json, replace_text, sha256_of

PACKAGE = "gemma-3-270m"
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(@[\w./-]{1,96})?")
CHOICES = f"give {PACKAGE}, a .gguf, a folder or owner/model"
FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model")
MAPPING = "vocabulary.json"  # in a model folder: the whole vocabulary's ids of a trimmed one's, as step 01 writes them
VERSION = 1  # part of the cache key: raise it when the conversion would give another folder
# Gemma 3's own ids of a turn, by llama.cpp; other readers of the GGUF split `user` or forget <bos> without an error.
GOLDEN = {
    "<start_of_turn>user\n台灣最高的山?<end_of_turn>\n": [2, 105, 2364, 107, 44953, 168507, 237845, 236881, 106, 107],
    "<start_of_turn>user\n<end_of_turn>\n": [2, 105, 2364, 107, 106, 107],
}


def find_base(name: str) -> Path:
    """Return the GGUF or the checked folder that a name stands for, downloaded first when it is one of the Hub's.

    `name`: `gemma-3-270m` (the pip package), a .gguf file, a folder with config.json, or `owner/model[@revision]`.
    Raises `KyaraError` with the fix when there is no such model or it has no safetensors.
    """
    if name == PACKAGE:
        return gemma_gguf()
    if name.endswith(".gguf"):
        if not Path(name).is_file():
            raise KyaraError(f"base_model: no file {name}; {CHOICES}")
        return Path(name)
    return check_folder(Path(name) if Path(name).is_dir() else _download(name))


def as_folder(found: Path) -> Path:
    """Return a transformers folder: `found` itself, or a GGUF converted once and kept in the cache by its SHA-256.

    A kept folder whose weights changed is made again.
    """
    if found.is_dir():
        return found
    folder = cache_dir() / "bases" / f"{sha256_of(found)[:24]}-v{VERSION}"
    weights, note = folder / "model.safetensors", folder.with_suffix(".json")
    if not (weights.is_file() and read_json(note).get("sha256") == sha256_of(weights)):
        gguf_to_transformers(found, folder)
        replace_text(note, json.dumps({"sha256": sha256_of(weights)}))
    return folder


def base_model_dir(name: str, out_dir: Path, ids: list[int] | None = None) -> tuple[Path, Path | None]:
    """Make `out_dir` a link to the transformers folder of a base model; return (out_dir, its GGUF or None).

    `name` as in `find_base`; the vocabulary of `gemma-3-270m` is cut to `ids` when given.
    """
    out_dir, found = Path(out_dir), trimmed_gemma(ids) if name == PACKAGE and ids else find_base(name)
    folder = as_folder(found).resolve()
    if name == PACKAGE:
        check_golden(folder, ids)
        _note_ids(folder, ids)
    if folder != out_dir.resolve():
        _clear(out_dir)
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        out_dir.symlink_to(folder, target_is_directory=True)
    return out_dir, found if found.is_file() else None


def check_golden(folder: Path, ids: list[int] | None = None) -> None:
    """Raise `KyaraError` unless the folder's tokenizer gives the golden ids of Gemma 3, or those among `ids`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text, golden in GOLDEN.items():
        found = tokenizer.encode(text).ids
        whole = [ids[number] for number in found] if ids else found
        if (not ids or set(golden) <= set(ids)) and whole != golden:
            raise KyaraError(f"{folder} reads {text!r} as {whole}, not {golden}; delete the folder and rerun")


def _note_ids(folder: Path, ids: list[int] | None) -> None:
    if ids and read_json(folder / MAPPING).get("ids") != ids:
        full = len(read_gguf(gemma_gguf()).need("tokenizer.ggml.tokens"))
        replace_text(folder / MAPPING, json.dumps({"source": PACKAGE, "full_size": full, "ids": ids}))


def _clear(out_dir: Path) -> None:
    if out_dir.is_symlink():
        out_dir.unlink()
    elif out_dir.is_dir():
        shutil.rmtree(out_dir)


def check_folder(folder: Path) -> Path:
    """Return `folder` when it holds a configuration, safetensors weights that are all there, and a tokenizer."""
    for pattern in ("config.json", "*.safetensors", "tokenizer.json"):
        if not any(folder.glob(pattern)):
            pickled = pattern == "*.safetensors" and any(folder.glob("*.bin"))
            fix = "convert the .bin files to safetensors" if pickled else "give a complete transformers folder"
            raise KyaraError(f"{folder} has no {pattern}; {fix}")
    index = folder / "model.safetensors.index.json"
    needed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else set()
    missing = sorted(file for file in needed if not (folder / file).is_file())
    if missing:
        raise KyaraError(f"{folder} lacks {missing[0]}, which its index names; download the model again")
    return folder


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    if not HUB_ID.fullmatch(name):
        raise KyaraError(f"base_model: {name!r} is no folder here; {CHOICES}")
    repository, _, revision = name.partition("@")
    target = cache_dir() / "hub"
    try:
        return Path(
            snapshot_download(repository, revision=revision or None, cache_dir=target, allow_patterns=list(FILES))
        )
    except Exception as error:  # the Hub client raises a dozen types of its own, and those of its HTTP library
        fix = "accept the model's licence and set HF_TOKEN, go online, or give a folder that holds it"
        raise KyaraError(f"base_model: {name} did not arrive ({type(error).__name__}); {fix}") from error


def check_tokenizer(model_dir: Path, tokenizer) -> None:
    """Raise `KyaraError` when a folder's tokenizer does not belong to its model: ids beyond the embedding, other ends.

    A mismatch does not fail: ids within the table train the wrong rows of it.
    """
    config = json.loads((Path(model_dir) / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config
    rows, added = config.get("vocab_size"), tokenizer.get_added_vocab()  # Gemma 3's has an image token without a row
    highest = max(number for text, number in tokenizer.get_vocab().items() if text not in added)
    if rows is not None and highest >= rows:
        raise KyaraError(f"{model_dir}: the tokenizer has id {highest}, the model {rows} rows; use the model's own")
    for name in ("bos", "pad"):
        wanted, found = config.get(f"{name}_token_id"), getattr(tokenizer, f"{name}_token_id")
        if wanted is not None and found is not None and wanted != found:
            raise KyaraError(
                f"{model_dir}: <{name}> is id {found} in the tokenizer, {wanted} in config.json; use the model's own"
            )
