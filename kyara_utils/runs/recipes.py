"""Recipes by name: a folder of params/ with a YAML file for each step, or a variant of one, which is a single file.

`params/variants/NAME.yaml` says `like: RECIPE`, what differs (`05: {seed: 1}`, steps by number or name), and with
`steps: [1, 2, 5]` that only these are run. It runs in a folder of its own and takes the calls that its recipe ships.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.params import match_step, nearest

LIKE, STEPS = "like", "steps"


@dataclass(frozen=True)
class Variant:
    """A recipe that is `like` another but for `changes` {step: {parameter: value}}; `steps` it runs."""

    like: str
    steps: tuple[str, ...]
    changes: dict[str, dict[str, Any]]


def recipes(root: Path) -> list[str]:
    """Folders of params/ that hold a step's YAML; others there (accelerate's settings) are no recipes."""
    return sorted({path.parent.name for path in (root / "params").glob("*/[0-9][0-9]_*.yaml")})


def variants(root: Path) -> list[str]:
    """Names of the variants."""
    return sorted(path.stem for path in (root / "params" / "variants").glob("*.yaml"))


def check_name(root: Path, recipe: str) -> None:
    """Raise KyaraError, with the nearest name, where there is neither a recipe nor a variant of that name."""
    if recipe not in (known := recipes(root) + variants(root)):
        raise KyaraError(f"no recipe {recipe} in params; {nearest(recipe, known)}")


def folder_of(root: Path, recipe: str) -> Path:
    """Where a recipe's files lie; a variant's are those of the recipe that it is like."""
    found = variant_of(root, recipe)
    return root / "params" / (found.like if found else recipe)


def steps_of(root: Path, recipe: str) -> list[str]:
    """The steps that a recipe runs, in their order."""
    found = variant_of(root, recipe)
    return list(found.steps) if found else _chain(root)


def load_recipe(root: Path, recipe: str, step: str) -> tuple[dict[str, Any], str]:
    """Return the flat YAML of one step of a recipe, and its path for messages. A missing file means all defaults."""
    check_name(root, recipe)
    if found := variant_of(root, recipe):
        values, _ = load_recipe(root, found.like, step)
        return values | found.changes.get(step, {}) | {"recipe": recipe}, _origin(recipe)
    name = f"params/{recipe}/{step}.yaml"
    values = _mapping(root / name) if (root / name).is_file() else {}
    if values.get("recipe", recipe) != recipe:
        raise KyaraError(f"{name} says recipe: {values['recipe']}, but lies in params/{recipe}; write recipe: {recipe}")
    return values, name


def variant_of(root: Path, name: str) -> Variant | None:
    """The variant of that name, None for any other; raises KyaraError for an unknown step or recipe in it."""
    path, origin = root / _origin(name), _origin(name)
    if not path.is_file():
        return None
    content, chain = _mapping(path), _chain(root)
    like, chosen = str(content.pop(LIKE, "")), content.pop(STEPS, chain)
    if like not in (known := recipes(root)):
        raise KyaraError(f"{origin}: like: {like or 'nothing'} is no recipe; {nearest(like, known)}")
    try:
        changes = {_step(key, chain): dict(values) for key, values in content.items()}
        wanted = {_step(key, chain) for key in chosen}
    except (TypeError, ValueError) as error:
        raise KyaraError(f"{origin}: write like: RECIPE, and lines such as 05: {{seed: 1}}") from error
    return Variant(like, tuple(step for step in chain if step in wanted), changes)


def _step(key: Any, chain: list[str]) -> str:
    """A step by name or number; YAML reads 05 as 5."""
    return match_step(f"{key:02d}" if isinstance(key, int) else str(key), chain)


def _origin(name: str) -> str:
    return f"params/variants/{name}.yaml"


def _chain(root: Path) -> list[str]:
    return list(_mapping(root / "params" / "pipeline.yaml")["steps"])


def _mapping(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise KyaraError(f"{path} is not YAML: {' '.join(str(error).split())}; correct it") from error
    if not isinstance(values, dict):
        raise KyaraError(f"{path} must be flat `name: value` lines; correct it")
    return values
