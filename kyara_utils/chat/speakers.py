"""Who can be talked to in a recipe: its base model, what training made of it so far, any model of the registry."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kyara_utils.llm import Model, Request, Response, find_model, model_file, trained
from kyara_utils.llm.embedded import EmbeddedServer
from kyara_utils.llm.endpoints import load_models
from kyara_utils.llm.streaming import asked, stream
from kyara_utils.models.packages import GEMMA
from kyara_utils.models.serving import FolderServer
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.finished import TRAINED, trained_models
from kyara_utils.runs.params import nearest

CONTEXT = 4096  # tokens of prompt and answer together
BASE, EVALUATION = "base", "08_eval"
Finished = dict[str, dict[str, Any]]
Server = EmbeddedServer | FolderServer


def models_of(found: Finished) -> dict[str, Model]:
    """The models of a run by name, `base` first and the newest last, from its finished steps (`runs.finished`).

    Before step 05 the embedded Gemma stands for the base model. A trained model is asked in the format of the card.
    """
    named = {name: trained(name, path, context=CONTEXT) for name, path in trained_models(found).items()}
    return {BASE: _base(found)} | {name: replace(model, style="full") for name, model in named.items()}


def choose(found: Finished, name: str = "") -> Model:
    """The model called `name`, of the run or of params/models.yaml; the newest of the run for ""."""
    models = models_of(found)
    if not name or name in models:
        return models[name or list(models)[-1]]
    if name in (steps := {trained: step for step, trained in TRAINED}):
        raise KyaraError(f"there is no model {name} yet: {steps[name]} has not finished; see {', '.join(models)}")
    if name not in (known := load_models()):
        raise KyaraError(f"no model {name}; {nearest(name, [*models, *known])}")
    return find_model(name)


def missing(recipe: str, found: Finished) -> str:
    """What is not there yet and how it comes about, in one line; "" for a run with all its models."""
    steps = [step for step, name in TRAINED if name not in trained_models(found)]
    if not steps:
        return ""
    left = " and ".join(steps)
    return f"not there yet: the models of {left}; python -m kyara_utils run {recipe} trains them"


def _base(found: Finished) -> Model:
    step = found.get("05_sft")
    if not step or step["key"]["params"]["base_model"] == GEMMA:
        return replace(find_model(GEMMA), name=BASE, context=CONTEXT)
    gguf = step["folder"].parent / EVALUATION / "base.gguf"  # step 08 wrote it, of this base or of one before
    evaluated = found.get(EVALUATION, {"key": {"inputs": {}}})["key"]["inputs"].get("05_sft")
    current = evaluated == {name: item["sha256"] for name, item in step["outputs"].items()} and gguf.is_file()
    return trained(BASE, gguf if current else step["folder"] / BASE, context=CONTEXT)


def vocabulary_of(found: Finished) -> Path | None:
    """The kept tokens of a run's embedded Gemma; the whole vocabulary answers before there is a trained model."""
    known = "05_sft" in found and "01_corpus_indexing" in found
    return found["01_corpus_indexing"]["folder"] / "vocabulary.json" if known else None


class Speaker:
    """One model and its server, started at the first question; a context manager.

    Stands in for `llm.Client` where an answer is looked at and not kept: `ask` takes the same requests.
    most: tokens of an answer, whatever is asked for; threads: of an embedded model, 0 for all cores.
    """

    def __init__(self, model: Model, vocabulary: Path | None = None, most: int = 512, threads: int = 0):
        self.model, self.most = model, most
        self._vocabulary, self._threads, self._server = vocabulary, threads, None

    def __enter__(self) -> "Speaker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop an embedded server and give its memory back."""
        if self._server:
            self._server.close()
        self._server = None

    @property
    def url(self) -> str:
        """Where the model answers, ending in /v1; an embedded model is served from now on."""
        if self.model.embedded and not self._server:
            self._server = serve(self.model, model_file(self.model, self._vocabulary), threads=self._threads)
        if not self._server and not self.model.urls:
            raise KyaraError(f"{self.model.name} has no address; give it a base_url in params/models.yaml")
        return self._server.base_url if self._server else self.model.urls[0]

    def stream(self, request: Request) -> Iterable[Response]:
        """See `llm.streaming.stream`."""
        return stream(self.model, self.url, self._limited(request))

    def ask(self, requests: Iterable[Request], label: str = "") -> list[Response]:
        """Answer requests one after the other, as `Client.ask` does; label: what asks, of no use here."""
        return [asked(self.model, self.url, self._limited(request)) for request in requests]

    def _limited(self, request: Request) -> Request:
        return replace(request, max_tokens=min(request.max_tokens, self.most))


def serve(model: Model, path: Path, port: int = 0, threads: int = 0, parallel: int = 1) -> Server:
    """Serve the file or folder of an embedded model at this machine's own address; port 0 takes a free one."""
    port, room = port or model.port, {"parallel": parallel, "context": model.context}
    if path.is_file():
        return EmbeddedServer(path, port=port, threads=threads, **room)
    try:
        return FolderServer(path, port=port, **room)
    except OSError as error:
        raise KyaraError(f"port {port} is not to be had ({error.strerror}); choose another, or 0 for any") from error
