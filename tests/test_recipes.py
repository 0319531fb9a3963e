"""Recipes: complete, known by name, and the same work however they are started."""

from pathlib import Path

import pytest
import yaml

from kyara_utils.runs import params, steps
from kyara_utils.runs.given import parameters_of

ROOT = Path(__file__).resolve().parents[1]
STEPS = list(steps.load_steps(ROOT))
RECIPES = params.recipes(ROOT)
both = [pytest.param(recipe, step, id=f"{recipe}-{step}") for recipe in RECIPES for step in STEPS]


def cell_of(step: str, recipe: str) -> dict:
    """The notebook's globals after its parameters cell, with the recipe's name typed in."""
    declared = params.declared(steps.notebook_of(ROOT, step))
    return {name: parameter.default for name, parameter in declared.items()} | {"recipe": recipe, "In": []}


@pytest.mark.parametrize(("recipe", "step"), both)
def test_every_way_to_start_resolves_the_same_parameters(recipe, step):
    """Run all, plain papermill with the YAML and the runner write into one folder: they must do the same work.

    The key is made of these values and of what lies on disk, so equal values are an equal key.
    """
    declared = params.declared(steps.notebook_of(ROOT, step))
    runner = steps.resolved(ROOT, recipe, step, {})
    path = ROOT / "params" / recipe / f"{step}.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    cell = cell_of(step, recipe)
    for injected in ({}, written, runner):
        lines = "".join(f"{name} = {value!r}\n" for name, value in injected.items())
        history = ["", f"# Parameters\n{lines}"] if injected else [""]
        assert parameters_of(ROOT, step, declared, cell | injected | {"In": history}) == runner
