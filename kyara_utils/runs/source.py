"""The code that decides a step's result: where it lies, its hash, and that it is the code which this process runs.

The key of a manifest hashes the checkout. Where Python imports an installed copy, or a kernel still holds what was
there before an edit, that hash would vouch for code that never ran; both are refused in one line.
"""

from collections.abc import Iterable
from pathlib import Path

from kyara_utils.runs import manifest
from kyara_utils.runs.errors import KyaraError

IMPORTED = Path(__file__).resolve().parents[1]
_first_seen: dict[str, str] = {}  # hashes of this process's rooms when its first step started


def source_of(root: Path, use: str) -> Path:
    """Return the room or file that pipeline.yaml means: of the checkout, else of the package that is installed."""
    for path in (root / "kyara_utils" / use, IMPORTED / use, root / use):
        if path.exists():
            return path
    raise KyaraError(f"params/pipeline.yaml: uses {use}, but there is no such room or file; correct it")


def code_hash(root: Path, use: str) -> str:
    """Hash of a room or file, docstrings and comments left out."""
    return manifest.source_hash(source_of(root, use))


def check_imported(root: Path, uses: Iterable[str]) -> None:
    """Raise `KyaraError` when what Python has imported is not what the key is about to hash."""
    checkout = root / "kyara_utils"
    for use in ("runs", *uses):
        if not (checkout / "__init__.py").is_file() or not (checkout / use).exists():
            continue
        now = manifest.source_hash(checkout / use)
        if checkout.resolve() != IMPORTED:
            _same_as_installed(use, now)
        elif _first_seen.setdefault(use, now) != now:
            raise KyaraError(f"kyara_utils/{use} was edited after this kernel had loaded it; restart the kernel")


def _same_as_installed(use: str, now: str) -> None:
    installed = IMPORTED / use
    if not installed.exists() or manifest.source_hash(installed) != now:
        raise KyaraError(
            f"Python imports {IMPORTED}, whose {use} differs from this checkout's; "
            "run in the checkout: pip install --no-deps -e ."
        )
