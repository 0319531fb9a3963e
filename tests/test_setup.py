"""Set-up files say the same thing everywhere, and the bundled data is what the README says."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "kyara_utils" / "data"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
NAMED = (
    "jupyterlab",
    "papermill",
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "qdrant-client",
    "matplotlib",
    "unsloth",
)
# What unsloth 2026.10.9 asks of its neighbours, from its package metadata.
UNSLOTH_CAPS = {"transformers": (5, 17, 0), "trl": (1, 15, 0), "datasets": (4, 99, 99), "torch": (2, 14, 99)}


def requirements(lines) -> dict[str, str]:
    found = {}
    for line in lines:
        match = re.match(r"([A-Za-z0-9_.-]+)\s*(.*)", line.split("#")[0].strip())
        if match:
            found[match[1].lower().replace("_", "-")] = match[2].strip()
    return found


def declared() -> dict[str, str]:
    extras = PROJECT["optional-dependencies"]
    return requirements([*PROJECT["dependencies"], *extras["gpu"], *extras["dev"]])


def test_conda_and_pip_install_the_same_set():
    """Two lists of the same versions drift apart at the first upgrade."""
    pip = next(item["pip"] for item in CONDA["dependencies"] if isinstance(item, dict))
    conda = requirements(line for line in pip if not line.startswith("-e"))
    assert set(NAMED) <= set(conda) and "-e .[gpu,dev]" in pip
    assert {name: declared()[name] for name in conda} == conda


def test_constraints_hold_every_pin():
    """A constraint that contradicts a pin makes the installation fail on the user's machine only."""
    constraints = requirements((ROOT / "constraints.txt").read_text().splitlines())
    for name, version in requirements(PROJECT["dependencies"]).items():
        if version.startswith("==") and name != "torch":
            assert constraints.get(name) == version, name
        elif name != "torch":
            assert name in constraints, name


def test_a_package_that_a_message_names_is_pinned_alike():
    """An embedder tells its user what to install; a newer release may have renamed what it calls."""
    words = (ROOT / "kyara_utils" / "knowledge" / "embedders.py").read_text()
    (named,) = re.findall(r"pip install (sentence-transformers\S*?)\"", words)
    assert named == "sentence-transformers" + declared()["sentence-transformers"]


def test_versions_are_inside_unsloths_caps():
    """One set of versions everywhere, so that a T4 notebook and a CPU test run the same code."""
    for name, cap in UNSLOTH_CAPS.items():
        version = tuple(int(part) for part in declared()[name].removeprefix("==").split("."))
        assert version <= cap, name


def test_ci_and_readme_run_the_same_commands():
    """A test command that nobody runs is not tested."""
    readme = (ROOT / "README.md").read_text()
    assert "make smoke" in readme and "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_linter_sees_every_module():
    """An exclude of the folder `runs` once left out the room of that name as well, and nothing said so."""
    command = [sys.executable, "-m", "ruff", "check", "--show-files", "kyara_utils"]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    left = set((ROOT / "kyara_utils").rglob("*.py")) - {Path(line) for line in seen}
    assert not left, left


def test_import_is_light():
    """`import kyara_utils` must not pull PyTorch: doctor, status and --help have to answer at once."""
    heavy = "('torch', 'transformers', 'matplotlib')"
    code = f"import sys, kyara_utils.__main__, kyara_utils.llm; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_bundled_corpus_is_what_the_readme_says():
    """Articles that are too short, too long or not Traditional Chinese would quietly spoil every later step."""
    from kyara_utils.text.normalise import simplified_characters

    articles = sorted(DATA.glob("corpus/*/*.md"))
    assert len(articles) >= 120 and len({path.parent for path in articles}) == 10
    for path in articles:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# "), path
        assert 300 <= len(re.sub(r"\s", "", text)) <= 1200, path
        assert not simplified_characters(text), (path, simplified_characters(text))


def test_bundled_benchmarks_and_personas():
    """An answer key outside the options, or a benchmark of five items, would make every score meaningless."""
    personas = [json.loads(line)["persona"] for line in (DATA / "personas.jsonl").read_text().splitlines()]
    assert len(set(personas)) >= 60
    choice = [json.loads(line) for line in (DATA / "benchmarks/multiple_choice.jsonl").read_text().splitlines()]
    assert len({item["subject"] for item in choice}) == 8 and len({item["group"] for item in choice}) == 4
    assert all(item["answer"] in "ABCD" and len({item[letter] for letter in "ABCD"}) == 4 for item in choice)
    for path in (DATA / "benchmarks").glob("*.jsonl"):
        assert len(path.read_text().splitlines()) >= 20, path


def test_help_suffices():
    """A user without the README must find recipes, steps and settings from --help."""
    command = [sys.executable, "-m", "kyara_utils", "run", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
    assert all(word in text for word in ("--dry-run", "--only", "--from", "--to", "--set", "05_sft.epochs=2"))


def test_the_page_of_benchmarks_shows_the_kept_measurements(monkeypatch):
    """A table typed by hand keeps the best run; a missed target must stay in it."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "bench"))
    import table

    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert table.written(page) == page, "run: python tests/bench/table.py --write"
    row = {"metric": "m", "value": 1, "unit": "s", "target": 2, "higher_is_better": True, "peer": ""}
    assert "missed" in table.line("b", row) and "missed" not in table.line("b", row | {"value": 2})
