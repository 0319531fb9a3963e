"""One truth for parameters: what a notebook's globals say, told apart into given, edited and left alone.

papermill with a recipe's YAML, the runner and "Run all" with nothing injected must do the same work. So a value that
was injected wins, then one that was edited in the parameters cell, then the recipe's YAML, then the cell's default.
"""

import ast
import logging
from pathlib import Path
from typing import Any

from kyara_utils.runs import params, recipes
from kyara_utils.runs.errors import KyaraError

log = logging.getLogger(__name__)
FILLED = "_kyara_filled"  # what an earlier start in this kernel took from the YAML: no edit of the user's


def parameters_of(root: Path, step: str, declared: dict[str, params.Parameter], namespace: dict[str, Any]) -> dict:
    """Return every parameter of a step, checked, and put them into the notebook's globals.

    Raises `KyaraError` on an unknown name, a wrong type, an unknown recipe, or papermill values without a recipe.
    """
    notebook = f"notebooks/{step}.ipynb"
    injected = _injected(namespace)
    if injected and "recipe" not in injected:
        fix = "add the line `recipe: NAME` to the YAML, or -p recipe NAME"
        raise KyaraError(f"{notebook}: papermill was given {', '.join(injected)} but no recipe; {fix}")
    edited = _edited(declared, namespace, injected)
    own = params.resolve(declared, injected | edited, notebook)
    written, origin = recipes.load_recipe(root, own["recipe"], step)
    values = params.resolve(declared, written, origin) | {name: own[name] for name in [*injected, *edited]}
    _tell(declared, values, origin, injected, edited)
    namespace[FILLED] = {name: value for name, value in values.items() if name not in injected | edited}
    namespace.update(values)
    return values


def _injected(namespace: dict[str, Any]) -> dict[str, Any]:
    """What papermill's own cell assigned, unknown names too, by IPython's history; a plain script has none."""
    cells = [text for text in namespace.get("In", ()) if text.lstrip().startswith("# Parameters\n")]
    names = _assigned(cells[-1]) if cells else []
    return {name: namespace[name] for name in names if name in namespace}


def _assigned(source: str) -> list[str]:
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a cell of the user's that only begins like papermill's
        return []
    return [
        node.targets[0].id for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]


def _edited(
    declared: dict[str, params.Parameter], namespace: dict[str, Any], injected: dict[str, Any]
) -> dict[str, Any]:
    """Values that differ from the saved cell's defaults and were not filled in from the YAML by an earlier start."""
    filled = namespace.get(FILLED, {})
    return {
        name: namespace[name]
        for name, parameter in declared.items()
        if name in namespace and name not in injected
        if namespace[name] != parameter.default and not (name in filled and namespace[name] == filled[name])
    }


def _tell(declared: dict, values: dict[str, Any], origin: str, injected: dict, edited: dict) -> None:
    if injected:
        rest = f", the rest from {origin}" if len(injected) < len(values) else ""
        log.info(f"values given by papermill{rest}")
        return
    others = [f"{n} {values[n]!r} (the cell says {p.default!r})" for n, p in declared.items() if values[n] != p.default]
    others = [text for text in others if text.split()[0] not in edited]
    log.info(f"values from {origin}" + (f": {', '.join(others)}" if others else ""))
    if edited:
        log.info(f"edited in the parameters cell: {', '.join(f'{name} {value!r}' for name, value in edited.items())}")
