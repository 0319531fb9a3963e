"""The chain of `params/pipeline.yaml` and the question that skipping hangs on: is a step's result still fresh?"""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from kyara_utils.runs import manifest, params, recipes
from kyara_utils.runs.env import runs_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.source import code_hash

FIELDS = ("needs", "uses", "folders", "calls", "packages", "optional")  # of a step, in the order of `Step`
NO_FOLDER = {"", "bundled", "hub"}  # what a parameter that names a folder may say instead


@dataclass(frozen=True)
class Step:
    """One notebook of the chain.

    needs: steps whose outputs it reads; optional: those of which it does without what they did not make;
    uses: rooms and files whose code decides its result;
    folders: parameters that name a user's folder, whose state belongs to the key; calls: what it asks of LLMs, for
    `--dry-run` (see kyara_utils/llm/plan.py); packages: installed packages whose tables decide its result.
    """

    name: str
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    folders: tuple[str, ...]
    calls: tuple[dict[str, Any], ...] = ()
    packages: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def load_steps(root: Path) -> dict[str, Step]:
    """Read the chain; each step may only need steps before it, so the order of the file is the order of the run."""
    content = yaml.safe_load((root / "params" / "pipeline.yaml").read_text(encoding="utf-8"))
    steps: dict[str, Step] = {}
    for name, fields in content["steps"].items():
        step = Step(name, *(tuple(fields.get(key, ())) for key in FIELDS))
        if missing := [need for need in step.needs + step.optional if need not in steps]:
            raise KyaraError(f"params/pipeline.yaml: {name} needs {missing[0]}, which does not come before it")
        steps[name] = step
    return steps


def notebook_of(root: Path, step: str) -> Path:
    """Path of a step's notebook."""
    return root / "notebooks" / f"{step}.ipynb"


def step_dir(root: Path, recipe: str, step: str) -> Path:
    """Folder of a step's outputs."""
    return runs_dir(root) / recipe / step


def key_parts(root: Path, recipe: str, step: Step, values: dict[str, Any]) -> dict[str, Any]:
    """Everything that a step's result depends on, by name, so that a stale step can say what changed."""
    upstream = {}
    for need in step.needs + step.optional:
        done = manifest.read(step_dir(root, recipe, need))
        outputs = done["outputs"] if done else {}
        upstream[need] = {name: item["sha256"] for name, item in outputs.items()}
    parts = {
        "cells": manifest.cells_hash(notebook_of(root, step.name)),
        "params": values,
        "code": {use: code_hash(root, use) for use in step.uses},
        "inputs": upstream,
        "folders": {name: _state(root, values[name]) for name in step.folders},
    }
    return parts | ({"packages": {name: metadata.version(name) for name in step.packages}} if step.packages else {})


def missing_folder(root: Path, step: Step, values: dict[str, Any]) -> str:
    """Return "" or, in words, which file or folder that the user named is not there."""
    for name in step.folders:
        value = str(values[name])
        if _names_a_path(name, value) and not (root / value).exists():
            return f"{name} {value} does not exist (looked in {root}); correct the path"
    return ""


def seen_from_here(root: Path, step: Step, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of the command line with folders as the user sees them: relative to where the command was given."""
    found = dict(settings)
    for name in set(step.folders) & settings.keys():
        path = Path(str(settings[name])).expanduser()
        if _names_a_path(name, str(settings[name])) and path.exists():
            whole = path.resolve()
            found[name] = str(whole.relative_to(root) if whole.is_relative_to(root) else whole)
    return found


def _names_a_path(name: str, value: str) -> bool:
    return value not in NO_FOLDER and not value.startswith("hub:") and (name != "base_model" or _is_path(value))


def _is_path(value: str) -> bool:
    """Whether a base model is given by path; a bare word or owner/name is a model's name."""
    return value.startswith((".", "/", "~")) or value.endswith(".gguf")


def _state(root: Path, value: str) -> str:
    path = root / value
    return manifest.folder_state(path) if value and path.exists() else "none"


def resolved(root: Path, recipe: str, step: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a step: notebook defaults, then the recipe's YAML, then settings from the command line."""
    declared = params.declared(notebook_of(root, step))
    given, origin = recipes.load_recipe(root, recipe, step)
    values = params.resolve(declared, given, origin)
    checked = params.resolve(declared, settings, f"--set {step}")
    return values | {name: checked[name] for name in settings} | {"recipe": recipe}


def why_stale(folder: Path, parts: dict[str, Any]) -> str:
    """Return "" when the step's result is fresh, else the reason to run it in one line."""
    done = manifest.read(folder)
    if done is None:
        return "not done yet"
    for name, item in done["outputs"].items():
        path = folder / item["path"]
        if not path.exists():
            return f"output {name} is gone"
        if path.is_file() and path.stat().st_size != item["bytes"]:
            return f"output {name} changed on disk"
    return difference(done["key"], parts)


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Name the first thing in which two keys differ: `params: epochs 1 → 2`, `code: training`, …"""
    for part in ("params", "code", "inputs", "folders", "packages", "cells"):
        before, now = old.get(part), new.get(part)
        if before == now:
            continue
        if not isinstance(now, dict):
            return "notebook code changed"
        name = next(key for key in {**now, **(before or {})} if (before or {}).get(key) != now.get(key))
        if part == "params":
            return f"params: {name} {(before or {}).get(name)!r} → {now.get(name)!r}"
        return f"{part}: {name} changed"
    return ""
