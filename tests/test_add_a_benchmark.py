"""A benchmark that the package does not know, made in a test: it must run and be shown wherever the others are.

The class is the example of `docs/add-a-benchmark.md`, executed as it stands there, so that the page stays true.
"""

import re

import pytest
from test_eval_notebook import ROOT, notebook  # noqa: F401

from kyara_utils.evaluation import registry
from kyara_utils.evaluation.benchmark import Benchmark
from kyara_utils.evaluation.golden import self_check
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.report import plots_eval
from kyara_utils.runs import KyaraError, read_csv

PAGE = (ROOT / "docs" / "add-a-benchmark.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def capitals(monkeypatch):
    """The page's example, registered while a test runs."""
    monkeypatch.setattr(registry, "_benchmarks", dict(registry.benchmarks()))
    exec(compile(BLOCKS[0], "add-a-benchmark.md", "exec"), {"__name__": "capitals"})
    return registry.get("capitals")


def test_it_runs_in_the_notebook_and_stands_in_every_table(tmp_path, notebook, capitals):  # noqa: F811
    """Asked, scored, compared, in the card, in the figure, in the contamination split: nothing was edited for it."""
    space, finished = notebook()
    table = [row for row in read_csv(tmp_path / "scores.csv") if row["benchmark"] == "capitals"]
    assert {(row["model"], float(row["value"]), row["n"]) for row in table} == {
        ("base", 0.0, "4"), ("sft", 0.0, "4"), ("dpo", 1.0, "4"),
    }  # fmt: skip
    assert list(registry.benchmarks())[-1] == "capitals", "those from outside come last"
    (line,) = [line for line in space["lines"] if line["score"] == "Capitals of the world"]
    assert line["table"] == "Beside the card" and line["ours [95 %]"].startswith("100.00 [")
    assert line["paired difference"].startswith("+100.00 [") and line["n"] == "4"
    parts = {row["part"]: row["n"] for row in space["split"] if (row["benchmark"], row["model"]) == ("capitals", "dpo")}
    assert parts == {"clean": 3, "seen in training": 1}
    assert finished["metrics"]["dpo_capitals"] == 1 and len(space["items"]) == finished["counts"]["items"]


def test_stored_answers_are_scored_without_a_model(capitals):
    """The page's second block, with the numbers that the page names."""
    space = {}
    exec(compile(BLOCKS[1], "add-a-benchmark.md", "exec"), space)
    assert (space["score"]["value"], space["score"]["n"], space["score"]["unscored"]) == (0.25, 4, 2)
    assert len(BLOCKS) == 2


def test_it_has_a_panel_in_the_figure(tmp_path, notebook, capitals):  # noqa: F811
    """The figure is drawn from scores.csv, one panel a benchmark."""
    import matplotlib.pyplot as plt

    notebook()
    figure = plots_eval.benchmark_scores(read_csv(tmp_path / "scores.csv"))
    assert any("capitals" in axes.get_title("left") for axes in figure.axes)
    plt.close(figure)


def test_its_golden_check_is_heard(tmp_path, capitals, monkeypatch):
    """A benchmark brings its own published figures."""
    monkeypatch.setattr(type(capitals), "check", lambda self, folder: iter([Figure("capitals", 1.0, 0.5, 0.0)]))
    figures = list(self_check.run(tmp_path))
    assert [(figure.name, figure.status) for figure in figures] == [("capitals", "MISMATCH")]
    with pytest.raises(KyaraError, match="capitals"):
        self_check.require(figures, "folder")


def test_questions_that_are_not_at_hand_are_a_reason(notebook, capitals, monkeypatch):  # noqa: F811
    """One line in the plan and no crash."""

    def load(self, source):
        raise KyaraError("the atlas is lent out")

    monkeypatch.setattr(type(capitals), "load", load)
    space, _ = notebook()
    assert space["suite"].reasons["capitals"] == "not run: the atlas is lent out"
    assert not any(row["benchmark"] == "capitals" for row in space["scores"])


def test_a_taken_name_is_refused():
    """A second benchmark under a known name would silently replace it."""

    class Other(Benchmark):
        name = "gsm8k"

    registry.benchmarks()
    with pytest.raises(KyaraError, match="gsm8k"):
        registry.register(Other)


def test_the_page_names_what_exists():
    """Every class and file that the page sends a reader to."""
    for name in re.findall(r"`((?:scored|judged|miniature)/\w+\.py)`", PAGE):
        assert (ROOT / "kyara_utils" / "evaluation" / name).is_file(), name
    for module, name in re.findall(r"`([a-z_.]+)\.([A-Z]\w+)", PAGE):
        path = ROOT / "kyara_utils" / "evaluation" / f"{module.replace('.', '/')}.py"
        assert f"class {name}" in path.read_text(encoding="utf-8")
