"""What a recipe has finished so far, for looking at it: manifests and trained models, whole or half a chain."""

from pathlib import Path
from typing import Any

from kyara_utils.runs import manifest, steps
from kyara_utils.runs.env import find_root
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.recipes import check_name

TRAINED = (("05_sft", "sft"), ("07_dpo", "dpo"))  # step and name of the models that are meant to be talked to


def finished(recipe: str) -> dict[str, dict[str, Any]]:
    """Manifests of a recipe's finished steps by name, each with its `folder`; an error when there are none."""
    if not (found := so_far(recipe)):
        raise KyaraError(f"recipe {recipe} has no finished step; run: python -m kyara_utils run {recipe}")
    return found


def so_far(recipe: str) -> dict[str, dict[str, Any]]:
    """What `finished` returns, also {} for a recipe that has not begun; one that does not exist is an error."""
    root = find_root()
    found = {}
    for name in steps.load_steps(root):
        folder = steps.step_dir(root, recipe, name)
        if done := manifest.read(folder):
            found[name] = done | {"folder": folder}
    if not found:
        check_name(root, recipe)
    return found


def trained_models(found: dict[str, dict[str, Any]]) -> dict[str, Path]:
    """Folders of the models that the finished steps (of `finished`) have trained, the newest last."""
    places = {name: found[step]["folder"] / name for step, name in TRAINED if step in found}
    return {name: folder for name, folder in places.items() if folder.is_dir()}
