"""Recipes: complete, known by name, and the same work however they are started."""

from pathlib import Path

import pytest
import yaml

from kyara_utils.llm import plan
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


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_whole(recipe):
    """A recipe of fragments falls back on the smoke defaults: an 80 GB GPU trained on forty questions."""
    folder = ROOT / "params" / recipe
    assert sorted(path.stem for path in folder.glob("*.yaml")) == STEPS
    for path in folder.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# ") and yaml.safe_load(text)["recipe"] == recipe


@pytest.mark.parametrize(("recipe", "step"), both)
def test_every_named_model_is_in_the_registry(recipe, step):
    """A competitor that models.yaml does not know ends the run after the hours of the steps before it."""
    values = steps.resolved(ROOT, recipe, step, {})
    for line in steps.load_steps(ROOT)[step].calls:
        names = values.get(line["model"], [])
        for name in names if isinstance(names, list) else [names]:
            plan.model_of(name)
    for name in {"model", "judge", "question_model"} & values.keys():
        assert plan.model_of(values[name]).name == values[name]


def test_the_cards_numbers_stand_in_the_paper_scale_recipe():
    """What the card publishes is copied, not chosen: its competitors, its problems, its second stage."""
    three, four, six = (steps.resolved(ROOT, "gemma-2-2b", step, {}) for step in (STEPS[2], STEPS[3], STEPS[5]))
    assert len(six["competitors"]) == 9 and len({plan.model_of(name).model for name in six["competitors"]}) == 9
    assert three["problems"] == 50_000 and round(four["refined_share"] * 3_625_593, -4) == 510_000
