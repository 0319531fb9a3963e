"""What the notebooks' set-up cell asks for on a platform that brings its own packages (Kaggle, Colab): all needs at
hand, and nothing of the platform's up- or downgraded.

Only what is missing is installed, into a folder of its own that comes first on `sys.path`. Where a missing package
needs a newer version of one that the platform has, the newer one lies in that folder, too: this notebook sees it, the
platform keeps its own. Standard library and pip alone, because it runs before anything else can be imported.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ImportError:  # a bare Python: pip brings a copy
    from pip._vendor.packaging.requirements import Requirement

Versions = Mapping[str, str]  # normalised name: version
Run = Callable[[list[str]], str]  # pip's arguments → what it says
RUNNING = {"ipykernel"}  # what already runs this cell; another version of it would only confuse


def ready(checkout: Path, folder: Path | None = None, have: Versions | None = None, run: Run | None = None) -> Iterator:
    """Make what the checkout needs importable; yield the plan in lines, before it is carried out.

    Raises `RuntimeError` with one line where pip cannot do it (no network, no version that fits), or where the folder
    is somebody else's.
    """
    folder, pip = folder or private_folder(), run or _pip
    known = installed() if have is None else have
    if needs(checkout, known) and os.path.lexists(folder):
        _check_own(folder)
        _put_first(folder)
        known = installed() if have is None else have
    if not (lacking := needs(checkout, known)):
        return  # also without the embedded models: who has all packages may well ask others
    found = dict(resolved(lacking, pip)) | dict(missing_models(checkout, known))
    yield from plan(checkout, known, found, folder)
    pip(["install", "--no-deps", "--target", str(folder), *(f"{name}=={version}" for name, version in found.items())])
    _put_first(folder)


def needs(checkout: Path, have: Versions) -> list[str]:
    """Requirements of pyproject.toml that the platform lacks, with the version that the tests ran with, or has too old.

    A version pinned with `==` counts as a wish where the platform has another one.
    """
    tested, lacking = _lines(checkout / "constraints.txt"), []
    for wish in _declared(checkout):
        name = normalised(wish.name)
        if name in RUNNING or (wish.marker and not wish.marker.evaluate()):
            continue
        pinned = str(wish.specifier) if str(wish.specifier).startswith("==") else f"=={tested.get(name, '')}"
        if name not in have:
            lacking.append(f"{wish.name}{pinned if pinned != '==' else wish.specifier}")
        elif not str(wish.specifier).startswith("==") and not wish.specifier.contains(have[name], prereleases=True):
            lacking.append(f"{wish.name}{wish.specifier}")
    return lacking


def missing_models(checkout: Path, have: Versions) -> list[tuple[str, str]]:
    """(name, version) of models.txt's packages that are not there; their own requirements are never installed.

    The smoke recipe needs them, so a new platform gets them with the rest.
    """
    return [(name, version) for name, version in _lines(checkout / "models.txt").items() if name not in have]


def resolved(lacking: list[str], run: Run) -> list[tuple[str, str]]:
    """What pip would have to install for these, as (name, version): what is there and fits is not among it."""
    report = json.loads(run(["install", "--dry-run", "--report", "-", *lacking]))
    parts = [item["metadata"] for item in report["install"]]
    return [(normalised(part["name"]), part["version"]) for part in parts]


def plan(checkout: Path, have: Versions, found: Versions, folder: Path) -> Iterator[str]:
    """The plan in words: what is installed where, what stands beside the platform's own, what was tested otherwise."""
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    yield f"installing {len(found)} packages into {folder}: {shown}"
    for name in found.keys() & have.keys():
        yield f"{name} {have[name]} of this platform stays as it is; this notebook uses {found[name]}"
    for wish in _declared(checkout):
        name, pin = normalised(wish.name), str(wish.specifier).removeprefix("==")
        if str(wish.specifier).startswith("==") and name in have and have[name].partition("+")[0] != pin:
            yield f"{name} {have[name]} of this platform is used; the tests ran with {pin}"


def installed() -> dict[str, str]:
    """Versions of all packages that Python finds here."""
    found: dict[str, str] = {}
    for one in metadata.distributions():  # the first on sys.path is the one that is imported
        if name := one.metadata["Name"]:
            found.setdefault(normalised(name), one.version)
    return found


def private_folder() -> Path:
    """Where the packages go: beside other temporary files, by Python version, since a session's disk is no archive."""
    return Path(tempfile.gettempdir()) / f"kyara-packages-{sys.version_info.major}.{sys.version_info.minor}"


def normalised(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared(checkout: Path) -> list[Requirement]:
    path = checkout / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"] if path.is_file() else {}
    return [Requirement(line) for line in project.get("dependencies", [])]


def _lines(path: Path) -> dict[str, str]:
    """{name: version} of a file of pinned requirements."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {normalised(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;#]+)", text, re.MULTILINE)}


def _check_own(folder: Path) -> None:
    """Among temporary files anybody may put a folder of this name: code of theirs is never imported."""
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} is somebody else's; set TMPDIR to a folder of your own")


def _put_first(folder: Path) -> None:
    """Right behind the checkout, before what the platform has."""
    if str(folder) not in sys.path:
        sys.path.insert(1, str(folder))
    importlib.invalidate_caches()


def _pip(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise RuntimeError(f"{lines[0]}; switch the notebook's internet access on, or add the packages as an input")
    return done.stdout
