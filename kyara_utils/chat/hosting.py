"""`python -m kyara_utils serve RECIPE`: a run's model behind an address, how other engines serve it, a look at both."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kyara_utils.chat.speakers import Finished, choose, serve, vocabulary_of
from kyara_utils.llm import Model, model_file
from kyara_utils.llm.endpoint_check import Finding, check_endpoint
from kyara_utils.llm.endpoints import find_model
from kyara_utils.models.deployment import commands
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.finished import trained_models

PARALLEL = 4  # requests answered at once
SAID = {"role": "user", "content": "請用一句話介紹你自己。"}


@contextmanager
def hosted(recipe: str, found: Finished, name: str = "", port: int = 0, threads: int = 0) -> Iterator[list[str]]:
    """Serve a model of a run while the context lasts; yields lines to print: address, curl, other engines' commands.

    Raises `KyaraError` for a model that answers elsewhere already, and for a port that is taken.
    """
    model = choose(found, name)
    if not model.embedded:
        raise KyaraError(f"{model.name} answers at {model.urls[0]} already; give --check {model.urls[0]}")
    path = model_file(model, vocabulary_of(found))
    server = serve(model, path, port, threads, PARALLEL)
    try:
        yield [
            f"{model.name} of recipe {recipe} ({path}) answers at {server.base_url}",
            "", curl(model, server.base_url), "", *elsewhere(recipe, found, model, path),
            f"look at what an address can do: python -m kyara_utils serve {recipe} --check {server.base_url}",
        ]  # fmt: skip
    finally:
        server.close()


def curl(model: Model, url: str) -> str:
    """A command that asks the model one question; a base model continues a text."""
    chat = model.dialect == "chat"
    asked = {"messages": [SAID]} if chat else {"prompt": "台灣最高的山是"}
    body = json.dumps({"model": model.name, **asked, "max_tokens": 64}, ensure_ascii=False)
    path = "/chat/completions" if chat else "/completions"
    return f"curl {url}{path} -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"


def elsewhere(recipe: str, found: Finished, model: Model, path: Path) -> list[str]:
    """How vLLM, SGLang, llama.cpp and Ollama serve this model: commands with the notes before them."""
    place = trained_models(found).get(model.name, path)
    called = f"kyara-{recipe}-{model.name}"
    lines = []
    for command in commands(place, called):
        lines += [f"# {command.engine}" + (f": {command.note}" if command.note else ""), command.shell, ""]
    return lines


def look_at(address: str, found: Finished | None = None, name: str = "") -> Iterator[Finding]:
    """What an address, or a name of params/models.yaml, can do (`llm.endpoint_check`).

    found: a run whose model is to answer there; then its chat template is compared by the tokens of a prompt.
    """
    there = address.startswith(("http://", "https://"))
    model = Model("endpoint", base_url=address) if there else find_model(address)
    if not model.urls:
        raise KyaraError(f"{address} has no address of its own; give http://HOST:PORT/v1")
    folder = _folder(found, name) if found is not None else None
    yield from check_endpoint(replace(model, timeout=min(model.timeout, 120.0)), _counter(folder) if folder else None)


def _folder(found: Finished, name: str) -> Path | None:
    return trained_models(found).get(choose(found, name).name)


def _counter(folder: Path):
    from kyara_utils.models.chat_templates import token_ids
    from kyara_utils.models.loading import load_tokenizer

    tokenizer = load_tokenizer(folder)
    return lambda messages: len(token_ids(tokenizer, messages, add_generation_prompt=True))
