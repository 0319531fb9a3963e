"""Files and folders: written whole or not at all, hashed once, small ones read leniently; one way for every room."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; the file or folder written there takes `path`'s place at the end.

    On any error nothing is left behind and `path` stays as it was; an `OSError` becomes one line with the fix.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir():
            shutil.rmtree(path, ignore_errors=True)  # a folder cannot be renamed over one that is not empty
        os.replace(temporary, path)
    except OSError as error:
        why = error.strerror or error
        raise KyaraError(f"cannot write {path} ({why}); free or remount the disk, then rerun") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; only where no other machine writes, as in a run's folder."""
    for left in path.parent.glob(f"{path.name}.*.tmp"):
        if not _alive(left.suffixes[-2][1:]):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


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
