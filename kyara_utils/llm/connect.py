"""From a model's name to a running client: endpoint, packaged model, or a file that a training step wrote."""

import json
from pathlib import Path

from kyara_utils.llm.client import Client
from kyara_utils.llm.models import Model, find_model
from kyara_utils.llm.packages import gemma_gguf, smollm2_gguf
from kyara_utils.llm.store import Store
from kyara_utils.llm.vocabulary import trimmed_gemma
from kyara_utils.runs.manifest import sha256


def model_file(model: Model, vocabulary: Path | None = None) -> Path | None:
    """Return the GGUF behind an embedded model; `vocabulary` (step 01's file) selects the trimmed Gemma."""
    if model.gguf:
        return Path(model.gguf)
    if model.package == "smollm2":
        return smollm2_gguf()
    if model.package == "gemma":
        ids = read_vocabulary(vocabulary) if vocabulary else []
        return trimmed_gemma(ids) if ids else gemma_gguf()
    return None


def read_vocabulary(path: Path) -> list[int]:
    """Kept token ids of the full model, as step 01 wrote them; [] keeps all."""
    return json.loads(Path(path).read_text(encoding="utf-8"))["ids"]


def connect(name: str | Model, store: Path, vocabulary: Path | None = None) -> Client:
    """Start a client for a model name of `params/models.yaml` (or a `Model`), storing calls in the file `store`."""
    model = find_model(name) if isinstance(name, str) else name
    gguf = model_file(model, vocabulary)
    identity = f"gguf {sha256(gguf)}" if gguf else ""
    return Client(model, Store(store), gguf, identity)
