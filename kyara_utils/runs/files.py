"""Writing so that a reader sees the old or the new content, never half of it: one way for every file and folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
