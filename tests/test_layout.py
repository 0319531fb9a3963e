"""The shape of the package: which room may import which, no circles, files that a reader can hold in mind.

A room that reaches upwards, or two modules that need each other, cannot be read, tested or replaced alone; it happens
one convenient import at a time and shows in no other test. `docs/design.md` says what each room is for.
"""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kyara_utils"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
GROUND = {"runs", "text"}
FLOOR = GROUND | {"models", "llm"}
ALLOWED = {  # room: the rooms it may import; __main__ and doctor stand on the roof and may import any
    "runs": set(),
    "text": {"runs"},
    "stats": {"runs"},
    "models": GROUND,
    "llm": GROUND | {"models"},
    "knowledge": FLOOR,
    "synthesis": FLOOR | {"knowledge"},
    "curation": FLOOR | {"knowledge"},
    "training": FLOOR,
    "preference": FLOOR | {"knowledge", "training", "stats", "curation", "synthesis"},
    "evaluation": FLOOR | {"stats", "curation", "preference"},
    "chat": FLOOR | {"knowledge", "synthesis", "evaluation"},
    "report": GROUND | {"stats", "models"},
    "sharing": GROUND | {"models", "report"},
}


def imports(name: str) -> set[str]:
    """Modules of the package that this one imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: relative import; imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    known = found & MODULES.keys()
    parents = {child.rpartition(".")[0] for child in known}
    return known - {name} - {module for module in known & parents if module not in _needed(found, module)}


def _needed(found: set[str], module: str) -> set[str]:
    """The package itself counts only where a name of its `__init__` is imported, not on the way to a module in it."""
    names = {name for name in found if name.rpartition(".")[0] == module and name not in MODULES}
    return {module} if names else set()


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_its_room_may(name):
    if (own := room(name)) not in ALLOWED:
        return
    strange = {other for other in imports(name) if room(other) not in ALLOWED[own] | {own}}
    assert not strange, f"{name} imports {', '.join(sorted(strange))}; room {own} may import {sorted(ALLOWED[own])}"


def test_the_allowed_arrows_form_no_circle():
    list(TopologicalSorter(ALLOWED).static_order())


def test_no_two_modules_need_each_other():
    try:
        list(TopologicalSorter({name: imports(name) for name in MODULES}).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_no_two_modules_share_a_name():
    """Two files called `pairs` are told apart by nothing in an editor's tab, a traceback's last line or a search."""
    stems = [path.stem for path in MODULES.values() if not path.stem.startswith("__")]
    assert not (shared := [stem for stem, count in Counter(stems).items() if count > 1]), shared


def test_files_are_short_and_so_are_functions():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert not (long := {name: lines for name, lines in lengths.items() if lines > 250}), long
    functions = [
        node.end_lineno - node.lineno + 1
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert median(functions) <= 10
