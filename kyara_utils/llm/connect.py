"""From a model's name to a client: endpoint, packaged model, or a file that a training step wrote."""

import hashlib
import json
from functools import partial
from pathlib import Path

from kyara_utils.llm.client import Client
from kyara_utils.llm.endpoints import Model, find_model
from kyara_utils.llm.replay import run_ledger
from kyara_utils.llm.spread import SpreadClient
from kyara_utils.models.gguf_trimming import VERSION, trimmed_gemma
from kyara_utils.models.loading import weights_sha256
from kyara_utils.models.packages import GEMMA, model_row, packaged_gguf
from kyara_utils.runs.engine import processes
from kyara_utils.runs.manifest import sha256


def model_file(model: Model, vocabulary: Path | None = None) -> Path | None:
    """Return the GGUF or folder behind an embedded model; `vocabulary` (step 01's file) selects the trimmed Gemma."""
    if not model.package:
        found = model.gguf or model.folder
        return Path(found) if found else None
    ids = _kept(model, vocabulary)
    return trimmed_gemma(ids) if ids else packaged_gguf(model.package, model.gguf)


def identity_of(model: Model, vocabulary: Path | None = None) -> str:
    """What answers, for the keys of calls: digests known without building or loading the model; "" for a URL."""
    if model.folder:
        return f"folder {weights_sha256(Path(model.folder))}"
    if not model.package:
        return f"gguf {sha256(Path(model.gguf))}" if model.gguf else ""
    identity = f"gguf {model_row(model.package).sha256}"
    if model.package != GEMMA:
        return identity
    ids = _kept(model, vocabulary)
    kept = hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16] if ids else "all"
    return f"{identity} vocabulary {kept} v{VERSION}"


def _kept(model: Model, vocabulary: Path | None) -> list[int]:
    return read_vocabulary(vocabulary) if vocabulary and model.package == GEMMA else []


def read_vocabulary(path: Path) -> list[int]:
    """Kept token ids of the full model, as step 01 wrote them; [] keeps all."""
    return json.loads(Path(path).read_text(encoding="utf-8"))["ids"]


def connect(
    name: str | Model, store: Path, vocabulary: Path | None = None, budget: float = 0.0, engine: str = "local"
) -> Client:
    """Return a client for a model name of `params/models.yaml` (or a `Model`), with its calls in the ledger `store`.

    Calls that the recipe ships are answered from its file. budget: USD after which it stops, 0 for none. Nothing is
    started or loaded before the first call that is not stored. engine: `ray` lets the workers of a cluster ask; this
    process alone asks thousands of calls a second, so `local:8` is as `local`.
    """
    model = find_model(name) if isinstance(name, str) else name
    kind = Client if processes(engine) else SpreadClient
    file = partial(model_file, model, vocabulary)
    return kind(model, run_ledger(store), file, identity_of(model, vocabulary), budget=budget)
