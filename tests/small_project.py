"""A project of two steps, for tests of the machinery that runs recipes."""

import json
from pathlib import Path


def small_project(tmp_path, monkeypatch):
    """A tiny project with two steps, a room and a recipe, as the working folder."""
    for folder in ("params/tiny", "notebooks", "kyara_utils/room"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "params/pipeline.yaml").write_text(
        "steps:\n  01_one: {uses: [room]}\n  02_two: {needs: [01_one], uses: [room]}\n"
    )
    (tmp_path / "params/tiny/01_one.yaml").write_text("recipe: tiny\nrate: 1.0e-4\n")
    (tmp_path / "kyara_utils/room/code.py").write_text('"""Doc."""\n\n\ndef f():\n    """Doc."""\n    return 1\n')
    for step in ("01_one", "02_two"):
        write_notebook(tmp_path, step)
    monkeypatch.setenv("KYARA_ROOT", str(tmp_path))
    monkeypatch.setenv("KYARA_RUNS", str(tmp_path / "runs"))
    return tmp_path


def write_notebook(root: Path, step: str, prose: str = "# Title", extra: str = "", text: str = "one") -> None:
    parameters = 'recipe: str = "tiny"  # folder\nrate: float = 1.0e-3  # per step\nn: int = 3  # rows\n'
    work = (
        f'from kyara_utils.runs import schemas, start, write_rows\nrun = start("{step}", globals())\n{extra}\n'
        f'write_rows(run.path("out.parquet"), [{{"id": "{text}", "n": 1}}], schemas.schema(id=str, n=int))\n'
        'run.finish({"out": run.path("out.parquet")});'
    )
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": prose},
        code("b", parameters, ["parameters"]),
        code("c", work),
    ]
    spec = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    notebook = {"cells": cells, "metadata": spec, "nbformat": 4, "nbformat_minor": 5}
    (root / "notebooks" / f"{step}.ipynb").write_text(json.dumps(notebook))


def code(name: str, source: str, tags: list[str] | None = None) -> dict:
    metadata = {"tags": tags} if tags else {}
    return {
        "cell_type": "code", "id": name, "metadata": metadata, "source": source, "execution_count": None, "outputs": [],
    }  # fmt: skip
