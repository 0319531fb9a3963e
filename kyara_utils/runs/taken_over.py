"""What a variant need not do again: the calls of its recipe's run, and the steps whose result would be the same."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from kyara_utils.runs import manifest, steps
from kyara_utils.runs.env import runs_dir

LEDGER = "calls.sqlite"


def begin_with_calls(root: Path, recipe: str, like: str) -> None:
    """Give a variant that has no ledger yet a copy of its recipe's, so that no equal call is asked twice."""
    source, target = (runs_dir(root) / name / LEDGER for name in (like, recipe))
    if target.exists() or not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(unfinished)) as new:
        old.backup(new)
    unfinished.rename(target)


def take_over(root: Path, recipe: str, like: str, step: steps.Step, values: dict[str, Any]) -> bool:
    """Copy a finished step of `like` where code, parameters and inputs are those of `recipe`; return whether it was.

    The copy's manifest comes last, as always, and is the recipe's own.
    """
    source, target = (steps.step_dir(root, name, step.name) for name in (like, recipe))
    parts = steps.key_parts(root, recipe, step, values)
    if steps.why_stale(source, parts | {"params": values | {"recipe": like}}):
        return False
    done = manifest.read(source) | {"recipe": recipe, "key": parts, "taken_from": like}
    (target / manifest.NAME).unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(manifest.NAME, ".lock"))
    manifest.write_json(target / manifest.NAME, done)
    return True
