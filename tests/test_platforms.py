"""Notebooks on Kaggle and Colab: found among read-only inputs, or told in a line; the platform's packages untouched."""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import kyara_utils
from kyara_utils import installing
from kyara_utils.report import times
from kyara_utils.runs.params import has_tag, load_notebook

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
AFTER = """
from kyara_utils.runs.env import cache_dir, find_root, runs_dir, writable
import kyara_utils
print(kyara_utils.__file__, find_root(), writable(runs_dir(find_root()), "x"), cache_dir(), sep="\\n")
"""


def set_up_cell(path):
    (cell,) = [cell for cell in load_notebook(path)["cells"] if has_tag(cell, "setup")]
    return cell["source"]


@pytest.fixture(scope="module")
def kaggle():
    """`working`, which anyone may write, beside `input`, where the checkout lies and nobody may."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        checkout = folder / "input/kyara-notebooks/kyara"
        for name in ("kyara_utils", "params"):
            shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "corpus"))
        for name in ("pyproject.toml", "constraints.txt", "models.txt"):
            shutil.copy(ROOT / name, checkout)
        for name in ("working", "tmp"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        for path in (folder, *folder.glob("input"), *folder.glob("input/**/*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield folder
        for path in (folder, *folder.glob("input"), *folder.glob("input/**")):
            path.chmod(0o755)


def run_alone(code, folder, *flags):
    """Run a notebook's code as a user without rights, as Kaggle's own is towards the inputs."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": str(folder / "tmp")}
    command = [sys.executable, "-B", *flags, "-c", code]
    rights = {"preexec_fn": without_rights} if os.geteuid() == 0 else {}
    place = {"cwd": folder / "working", "env": environment}
    return subprocess.run(command, **place, **rights, capture_output=True, text=True, timeout=300)


def without_rights():
    """Take from root what makes it ignore the mode of files: capabilities that exec may not give it any more."""
    libc = ctypes.CDLL(None)
    for capability in range(41):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_set_up_alone_as_on_kaggle(path, kaggle):
    """Inputs are read-only: an installation into them fails, and results beside them can't be written."""
    done = run_alone(set_up_cell(path) + AFTER, kaggle)
    assert done.returncode == 0, done.stderr
    package, root, runs, cache = done.stdout.splitlines()
    checkout = kaggle / "input/kyara-notebooks/kyara"
    assert Path(package).parent.parent == Path(root) == checkout
    assert Path(runs) == kaggle / "working/runs" and Path(cache) == kaggle / "tmp/kyara"


def test_a_notebook_downloaded_alone_says_what_is_missing(tmp_path):
    """A bare StopIteration told nobody that a checkout was wanted."""
    folder = tmp_path / "content"
    for name in ("working", "tmp"):
        (folder / name).mkdir(parents=True)
    done = run_alone(set_up_cell(NOTEBOOKS[0]), folder, "-S")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("RuntimeError: no checkout of Kyara here or in ../input, and none is published yet")


# The plan


def packages(name):
    return installing._lines(ROOT / name)


def test_on_colab_nothing_that_is_there_is_asked_for():
    """136 packages would have been replaced by the pins, torch and transformers among them."""
    have = packages("tests/fixtures/colab_packages.txt")
    lacking = {re.match(r"[\w.-]+", line)[0]: line for line in installing.needs(ROOT, have)}
    assert lacking["trl"] == "trl==1.14.2" and re.fullmatch(r"papermill==[\d.]+", lacking["papermill"])
    assert not lacking.keys() & {"torch", "transformers", "datasets", "peft", "accelerate", "numpy", "ipykernel"}
    there = {name for name in lacking if installing.normalised(name) in have}
    assert there == {"psutil"} and lacking["psutil"] == "psutil>=6"  # too old, by a floor and not by a pin
    missing = {name for name in lacking if name not in there}
    assert all("==" in lacking[name] for name in missing), "what the tests ran with, not the newest"


def test_the_plan_says_what_stays_and_what_is_used():
    have = packages("tests/fixtures/colab_packages.txt")
    lines = list(installing.plan(ROOT, have, {"trl": "1.14.2", "datasets": "4.8.5"}, Path("kept")))
    assert lines[0] == "installing 2 packages into kept: trl 1.14.2, datasets 4.8.5"
    assert "datasets 4.0.0 of this platform stays as it is; this notebook uses 4.8.5" in lines
    assert any(line.startswith("transformers 5.9.0 of this platform is used; the tests ran with") for line in lines)


def wheel(folder, name, version, needs=()):
    """A wheel that holds one module of its name."""
    about = f"{name}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    files = {
        f"{name}.py": f"VERSION = {version!r}\n", f"{about}/METADATA": "\n".join(lines) + "\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }  # fmt: skip
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as out:
        for path, text in files.items():
            out.writestr(path, text)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout that needs a made-up package, which needs a tqdm that no platform has; pip finds both in a folder."""
    wheel(tmp_path, "kyara_made_up", "1.0", ["tqdm>=999"])
    wheel(tmp_path, "tqdm", "999.0")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["kyara-made-up>=1", "tqdm>=4", "numpy==0.1"]\n'
    )
    (tmp_path / "constraints.txt").write_text("kyara-made-up==1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(sys, "path", sys.path[:])
    return tmp_path


def test_pip_leaves_the_platform_alone(checkout):
    """What a missing package wants newer lies beside the platform's own, and only this process sees it."""
    before = installing.installed()
    said = list(installing.ready(checkout, checkout / "own"))
    assert said[0].startswith("installing 2 packages into") and "kyara-made-up 1.0" in said[0]
    assert f"tqdm {before['tqdm']} of this platform stays as it is; this notebook uses 999.0" in said
    assert f"numpy {before['numpy']} of this platform is used; the tests ran with 0.1" in said
    import kyara_made_up

    assert kyara_made_up.VERSION == "1.0" and metadata.version("tqdm") == "999.0"
    sys.path.remove(str(checkout / "own"))
    assert installing.installed() == before
    assert list(installing.ready(checkout, checkout / "own")) == []  # a second notebook finds them there


def test_a_folder_that_somebody_else_has_put_there_is_never_imported(checkout, monkeypatch):
    """Everybody may write among temporary files, and what comes first on the path is what runs."""
    (checkout / "own").mkdir()
    (checkout / "link").symlink_to(checkout / "own")
    path = sys.path[:]
    with pytest.raises(RuntimeError, match="somebody else's; set TMPDIR"):
        list(installing.ready(checkout, checkout / "link"))
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(RuntimeError, match="somebody else's"):
        list(installing.ready(checkout, checkout / "own"))
    have = {"kyara-made-up": "1.0", "tqdm": "4.1", "numpy": "2.0"}
    assert list(installing.ready(checkout, checkout / "own", have)) == [] and sys.path == path, "nothing is lacking"


def test_what_pip_cannot_find_is_one_line(checkout):
    (checkout / "kyara_made_up-1.0-py3-none-any.whl").unlink()
    with pytest.raises(RuntimeError, match="internet access") as error:
        list(installing.ready(checkout, checkout / "own"))
    assert "\n" not in str(error.value) and not (checkout / "own").exists()


def test_models_come_without_their_requirements(checkout):
    """Their Python dependencies would be compiled from source."""
    (checkout / "models.txt").write_text("# parts\nllm-model==0.1.2\ntqdm==1.0\n")
    assert installing.missing_models(checkout, {"tqdm": "4"}) == [("llm-model", "0.1.2")]
    asked = []
    have = {"kyara-made-up": "1.0", "tqdm": "4.1", "numpy": "2.0"}
    assert list(installing.ready(checkout, checkout / "own", have, asked.append)) == [] and not asked


# The published address


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_name_the_published_address(path):
    """One constant: a badge to an address that does not exist, or a set-up cell that knows another, helps nobody."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert times.with_address(notebook, path.stem, kyara_utils.PUBLISHED) == notebook, (
        "run: python -m kyara_utils times"
    )


def test_badges_come_and_go_with_the_address():
    before = json.loads(NOTEBOOKS[5].read_text(encoding="utf-8"))
    address = "https://github.com/somebody/kyara"
    after = times.with_address(before, "05_sft", address)
    line = after["cells"][0]["source"][2]
    assert "colab.research.google.com/github/somebody/kyara/blob/main/notebooks/05_sft.ipynb" in line
    assert "kaggle.com/kernels/welcome?src=https://github.com/somebody/kyara/blob/main/notebooks/05_sft.ipynb" in line
    (cell,) = [cell for cell in after["cells"] if has_tag(cell, "setup")]
    assert f'PUBLISHED = "{address}"  # address' in "".join(cell["source"])
    assert times.with_address(after, "05_sft", address) == after
    assert times.with_address(after, "05_sft", "") == before
