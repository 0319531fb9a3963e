"""Where a base model comes from: the pip package, a GGUF file, a folder, or the Hugging Face Hub.

Each ends as a transformers folder with safetensors. Pickled weights are refused: loading them runs code.
"""

import json
import re
import shutil
from pathlib import Path

from kyara_utils.llm.packages import gemma_gguf
from kyara_utils.llm.vocabulary import trimmed_gemma
from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.training.checkpoints import gguf_to_transformers

PACKAGE = "gemma-3-270m"
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(@[\w./-]{1,96})?")
CHOICES = f"give {PACKAGE}, a .gguf, a folder or owner/model"
FILES = ("*.safetensors", "*.json", "tokenizer.model")


def base_model_dir(name: str, out_dir: Path, ids: list[int] | None = None) -> tuple[Path, Path | None]:
    """Make `out_dir` the transformers folder of a base model; return (out_dir, its GGUF or None).

    `name`: `gemma-3-270m` (the pip package, its vocabulary cut to `ids` when given), a .gguf file of Gemma 3, a
    folder with config.json, or `owner/model[@revision]` of the Hub. A GGUF is converted, a folder is linked to.
    Raises `KyaraError` with the mend when there is no such model or it has no safetensors.
    """
    out_dir = Path(out_dir)
    if name == PACKAGE or name.endswith(".gguf"):
        gguf = Path(name) if name != PACKAGE else trimmed_gemma(ids) if ids else gemma_gguf()
        if not gguf.is_file():
            raise KyaraError(f"base_model: no file {gguf}; {CHOICES}")
        _clear(out_dir)
        return gguf_to_transformers(gguf, out_dir), gguf
    folder = check_folder(Path(name) if Path(name).is_dir() else _download(name)).resolve()
    if folder != out_dir.resolve():
        _clear(out_dir)
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        out_dir.symlink_to(folder, target_is_directory=True)
    return out_dir, None


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
            mend = "convert the .bin files to safetensors" if pickled else "give a complete transformers folder"
            raise KyaraError(f"{folder} has no {pattern}; {mend}")
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
        mend = "accept the model's licence and set HF_TOKEN, go online, or give a folder that holds it"
        raise KyaraError(f"base_model: {name} did not arrive ({type(error).__name__}); {mend}") from error


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
