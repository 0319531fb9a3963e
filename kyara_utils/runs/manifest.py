"""Manifests and freshness: a manifest is written last and atomically, so its existence means that the step is done."""

import ast
import csv
import hashlib
import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing
from kyara_utils.runs.params import has_tag, load_notebook

NAME = "manifest.json"
RECORDS = ("training.json",)


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's sorted relative names and contents, less the times that `RECORDS` tell."""
    if path.is_dir():
        items = [item for item in sorted(path.rglob("*")) if item.is_file() and item.name not in RECORDS]
        parts = [f"{item.relative_to(path).as_posix()} {sha256(item)}" for item in items]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows_in(path: Path) -> int | None:
    """Number of rows of a Parquet or CSV file, else None."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_metadata(path).num_rows
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            return max(0, sum(1 for _ in csv.reader(file)) - 1)
    return None


def describe(path: Path, base: Path) -> dict[str, Any]:
    """Record of one output: path relative to the run folder, SHA-256, bytes and rows."""
    if not path.exists():
        raise KyaraError(f"{path} was to be an output but does not exist; rerun the notebook from the top")
    size = sum(item.stat().st_size for item in path.rglob("*")) if path.is_dir() else path.stat().st_size
    return {"path": path.relative_to(base).as_posix(), "sha256": sha256(path), "bytes": size, "rows": rows_in(path)}


def write_json(path: Path, content: Any) -> Path:
    """Write JSON under a temporary name, flush it to disk, then rename."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    return path


def read(folder: Path) -> dict[str, Any] | None:
    """Return the manifest in a step's folder, or None where the step has not completed."""
    try:
        return json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except json.JSONDecodeError as error:
        raise KyaraError(f"{folder / NAME} is damaged; delete it and rerun the step") from error


def source_hash(path: Path) -> str:
    """Hash of a room or file. Python counts by its syntax tree without docstrings, so prose never reruns a training."""
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    digest = hashlib.sha256()
    for item in files:
        if "__pycache__" not in item.parts:
            state = item.stat()
            digest.update(item.name.encode() + b"\0" + _file_digest(item, state.st_mtime_ns, state.st_size))
    return digest.hexdigest()


@cache
def _file_digest(path: Path, mtime_ns: int, size: int) -> bytes:
    content = _code(path.read_text(encoding="utf-8")) if path.suffix == ".py" else path.read_bytes()
    return hashlib.sha256(content).digest()


def _code(source: str) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if documented and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree).encode()


def cells_hash(notebook: Path) -> str:
    """Hash of a notebook's code cells; prose, the parameters cell (counted by value) and the set-up cell stay out: how
    the package was found decides nothing, and `source.check_imported` proves that the right one is imported."""
    cells = [cell for cell in load_notebook(notebook)["cells"] if cell["cell_type"] == "code"]
    code = [cell["source"] for cell in cells if not has_tag(cell, "parameters") and not has_tag(cell, "setup")]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def folder_state(folder: Path) -> str:
    """Hash of a user's input folder by names, sizes and times: cheap even for millions of pages."""
    items = [folder] if folder.is_file() else sorted(item for item in folder.rglob("*") if item.is_file())
    lines = [f"{item.relative_to(folder)} {item.stat().st_size} {item.stat().st_mtime_ns}" for item in items]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def git_commit(root: Path) -> str:
    """Commit and whether the tree is dirty, or `unknown` outside a checkout."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
