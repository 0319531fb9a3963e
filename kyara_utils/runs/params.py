"""Strict, flat, typed parameters: declared once in a notebook's `parameters` cell, set in YAML or on the command line.

Papermill only warns about unknown names and injects whatever type YAML gave (`1e-4` is a string in YAML 1.1); a run
with a misspelt learning rate would be green. Here every name and type is checked before a kernel starts.
"""

import ast
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kyara_utils.runs.errors import KyaraError

TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: `name: type = default  # help`."""

    name: str
    type: str
    default: Any
    help: str


def load_notebook(path: Path) -> dict[str, Any]:
    """Read an .ipynb as JSON, with `source` joined to one string per cell."""
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise KyaraError(f"no notebook {path}; restore it with git") from error
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def has_tag(cell: dict[str, Any], tag: str) -> bool:
    """Whether a cell carries a tag such as `parameters`."""
    return tag in cell.get("metadata", {}).get("tags", [])


def declared(notebook_path: Path) -> dict[str, Parameter]:
    """Return the parameters that a notebook declares, in order."""
    cells = [cell for cell in load_notebook(notebook_path)["cells"] if has_tag(cell, "parameters")]
    if len(cells) != 1:
        raise KyaraError(f"{notebook_path} has {len(cells)} cells tagged `parameters`; it needs exactly one")
    lines = cells[0]["source"].splitlines()
    found = {}
    for node in ast.parse(cells[0]["source"]).body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.annotation, ast.Name):
            where = f"{notebook_path}: line {node.lineno} of the parameters cell"
            raise KyaraError(f"{where} is not `name: type = literal`")
        name, kind = node.target.id, node.annotation.id
        help_text = lines[node.end_lineno - 1].partition("#")[2].strip()
        found[name] = Parameter(name, kind, ast.literal_eval(node.value), help_text)
    return found


def check_value(parameter: Parameter, value: Any, origin: str) -> Any:
    """Return `value` in its declared type; an int is taken for a float, nothing else is converted."""
    expected = TYPES[parameter.type]
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        fix = "write 1.0e-4, with the dot" if parameter.type == "float" else f"give a {parameter.type}"
        raise KyaraError(
            f"{origin}: {parameter.name} must be {parameter.type}, not {type(value).__name__} {value!r}; {fix}"
        )
    return value


def resolve(parameters: dict[str, Parameter], given: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return every declared parameter with its given value or default; raise on an unknown name or a wrong type."""
    for name in given:
        if name not in parameters:
            raise KyaraError(f"{origin}: unknown parameter {name}; {nearest(name, parameters)}")
    return {
        name: check_value(parameter, given.get(name, parameter.default), origin)
        for name, parameter in parameters.items()
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest of the known ones, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"


def parse_settings(settings: list[str], steps: list[str]) -> dict[str, dict[str, Any]]:
    """Parse `--set step.name=value` options into {step: {name: value}}; a step may be given by its number."""
    parsed: dict[str, dict[str, Any]] = {}
    for setting in settings:
        target, equals, text = setting.partition("=")
        step, dot, name = target.rpartition(".")
        if not (equals and dot and step):
            raise KyaraError(f"--set {setting}: write --set step.name=value, e.g. --set 05_sft.epochs=2")
        parsed.setdefault(match_step(step, steps), {})[name] = parse_value(text)
    return parsed


def parse_value(text: str) -> Any:
    """Read a command-line value as YAML, but `1e-5` as the float that its writer meant."""
    value = yaml.safe_load(text) if text else ""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return text
    return value


def match_step(name: str, steps: list[str]) -> str:
    """Return the step called `name` or beginning with it (`05`, `05_sft`)."""
    hits = [step for step in steps if step == name or step.startswith(name + "_")]
    if len(hits) != 1:
        raise KyaraError(f"no step {name}; {nearest(name, steps)}")
    return hits[0]
