"""Static gates: each keeps out one way in which a notebook looks fine and is not."""

import ast
import json
import re
import statistics
from pathlib import Path

import pytest
import yaml

from kyara_utils.report import times
from kyara_utils.runs import params, read_csv
from kyara_utils.runs.steps import load_steps

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STEPS = list(load_steps(ROOT))
RECIPES = sorted(path for path in (ROOT / "params").glob("*/[0-9][0-9]_*.yaml"))
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[str]:
    return [cell["source"] for cell in params.load_notebook(path)["cells"] if cell["cell_type"] == "code"]


def test_every_step_has_a_notebook_and_the_tour_exists():
    """A step renamed in the pipeline but not on disk would fail only after the hours of the steps before it."""
    assert [path.stem for path in NOTEBOOKS] == ["00_tour", *STEPS]


@every
def test_cells_are_short(path):
    """Logic that grows in a notebook is neither tested nor reused."""
    lengths = [len([line for line in source.splitlines() if line.strip()]) for source in code_cells(path)]
    assert statistics.median(lengths[2:]) <= 8  # behind set-up, which is the same in all, and the list of parameters
    assert max(lengths) <= 30


@every
def test_hardly_any_definitions(path):
    """A class or a third function in a notebook belongs in the package, where a test can reach it."""
    nodes = [node for source in code_cells(path) for node in ast.walk(ast.parse(source))]
    assert sum(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in nodes) <= 2
    assert not any(isinstance(node, ast.ClassDef) for node in nodes)


@every
def test_no_shell_no_exit_no_chdir(path):
    """`!cmd`, `%pip` and `sys.exit(0)` that fail leave papermill with exit code 0; `os.chdir` breaks relative paths."""
    text = "\n".join(code_cells(path))
    for banned in (
        r"^\s*[!%]",
        r"sys\.exit",
        r"os\.chdir",
        r"(?<!\.)\binput\(",
        r"(?<!\.)\beval\(",
        r"shell\s*=\s*True",
    ):
        assert not re.search(banned, text, re.MULTILINE), banned


@every
def test_no_absolute_paths(path):
    """A path that exists on one machine only makes a notebook that runs on one machine only."""
    assert not re.search(r"[\"'](/|~|[A-Z]:\\\\)[A-Za-z]", "\n".join(code_cells(path)))


@every
def test_kernelspec_runs_everywhere(path):
    """A kernel called `conda-env-…` is missing elsewhere; without `language` papermill cannot inject parameters."""
    spec = json.loads(path.read_text(encoding="utf-8"))["metadata"]["kernelspec"]
    assert (spec["name"], spec["language"]) == ("python3", "python")


@every
def test_no_outputs_and_no_foreign_metadata(path):
    """Outputs make diffs unreadable, widget state makes GitHub refuse the notebook, papermill's record goes stale."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) == {"kernelspec"}
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        assert not cell.get("outputs") and cell.get("execution_count") is None


@every
def test_one_parameters_cell_small_and_flat(path):
    """Papermill does not see `int | None`, an `=` in a help text hides a parameter, a dict is replaced whole."""
    declared = params.declared(path)
    assert 1 <= len(declared) <= 28 and "recipe" in declared
    for parameter in declared.values():
        assert parameter.type in params.TYPES
        assert parameter.help and "=" not in parameter.help
        assert parameter.default == {} if parameter.type == "dict" else "{" not in str(parameter.default)
        assert params.check_value(parameter, parameter.default, path.name) == parameter.default


@every
def test_same_set_up_cell_first(path):
    """Hundreds of slightly different install cells are how other collections rot."""
    assert code_cells(path)[0] == code_cells(NOTEBOOKS[0])[0]


@every
def test_ids_unique_and_no_empty_cell(path):
    """Duplicate ids make merges attach outputs to the wrong cell; empty cells are leftovers."""
    cells = params.load_notebook(path)["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(cell["source"].strip() for cell in cells)


@every
def test_title_number_and_table(path):
    """A reader must know from the first cell what comes in, what goes out and how long it takes."""
    first = params.load_notebook(path)["cells"][0]["source"]
    assert first.startswith(f"# {path.stem[:2]} · ")
    assert all(f"| {word}" in first for word in ("Reads", "Writes", "Needs", "Time"))


@pytest.mark.parametrize("row", read_csv(ROOT / times.TABLE), ids=lambda row: row["step"])
def test_times_are_those_of_the_published_run(row):
    """Times by hand were right once. `python -m kyara_utils times` writes them from figures/data/steps.csv."""
    first = params.load_notebook(ROOT / "notebooks" / f"{row['step']}.ipynb")["cells"][0]["source"]
    assert times.time_row(row) in first


@every
def test_lines_are_short(path):
    """Code and prose of a notebook are read in a browser's column and in diffs; tables cannot be broken."""
    cells = params.load_notebook(path)["cells"]
    lines = [line for cell in cells for line in cell["source"].splitlines() if not line.startswith("|")]
    assert not [line for line in lines if len(line) > 110]


@every
def test_links_lead_somewhere(path):
    """A renamed notebook leaves dead links in its neighbours."""
    text = "\n".join(cell["source"] for cell in params.load_notebook(path)["cells"] if cell["cell_type"] == "markdown")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("step", STEPS)
def test_begins_with_start_and_ends_with_finish(step):
    """A notebook that does not write its manifest last is never done, or done too early."""
    cells = code_cells(ROOT / "notebooks" / f"{step}.ipynb")
    assert any(f'run = start("{step}", globals())' in source for source in cells[:3])
    assert "run.finish(" in cells[-1] and not any("run.finish(" in source for source in cells[:-1])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipe_keys_are_declared_with_their_type(path):
    """Papermill only warns about a misspelt key, and YAML reads 1e-4 as text: the run would be green and wrong."""
    declared = params.declared(ROOT / "notebooks" / f"{path.stem}.ipynb")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert params.resolve(declared, values, path.name)["recipe"] == path.parent.name


# Modules whose code only shows something: a change there must not retrain a model.
ONLY_SHOWS = {
    "01_corpus_indexing": {"report/plots_eval", "report/style"},
    "02_rag_sft_synthesis": {"report/plots_data", "report/style"},
    "04_filtering": {"report/plots_judge", "report/style"},
    "05_sft": {"llm"},
    "06_dpo_pair_judging": {"report/plots_pairs", "report/style"},
    "07_dpo": {"llm"},
}


@pytest.mark.parametrize("step", STEPS)
def test_every_room_that_a_notebook_imports_is_declared(step):
    """A room missing under `uses` never makes its step stale: the old result is trusted after the code changed."""
    imported = {
        node.module.removeprefix("kyara_utils.").replace(".", "/")
        for source in code_cells(ROOT / "notebooks" / f"{step}.ipynb")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kyara_utils.")
    }
    uses = load_steps(ROOT)[step].uses
    for module in imported:
        if module.split("/")[0] not in ("runs", "installing") and module not in ONLY_SHOWS.get(step, ()):
            assert any(module == use.removesuffix(".py") or module.startswith(f"{use}/") for use in uses), module
