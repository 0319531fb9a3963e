"""Models by name: what a parameter may say, and where the answer comes from (`params/models.yaml`)."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from kyara_utils.runs.env import find_root
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.params import nearest

STYLES = ("completion", "brief", "full")
ENGINES = ("openai", "vllm", "sglang", "llamacpp")
CALL = re.compile(r"/(chat/)?completions/*$")  # copied along with an address, often


@dataclass(frozen=True)
class Model:
    """One model behind an OpenAI-compatible server, ours (`package`, `gguf`, `folder`) or somebody's (`base_url`).

    package: a row of `models/packages.py`; gguf: a file, which beside a package must be the package's very file.
    folder: of a transformers model, served in this process; beside a base_url, the weights that answer there.
    style: what prompts and limits suit it: `completion` for base models, `brief` for small instruct models, `full` for
    strong teachers. Left out, an embedded chat model is brief and one behind an address full.
    base_url: one address, or a list of replicas of the same model; model: its name there.
    key_env: the environment variable that holds the key.
    dialect: `chat` lets the server apply the model's template, `completion` renders few-shot text for a base model.
    revision: what tells answers apart that the name does not (a dated version, a fine-tune): part of a call's key.
    engine: whose extra fields the server takes: openai (none), vllm, sglang or llamacpp.
    system: said first to a chat model when the messages bring no system turn of their own.
    system_role: false folds a system turn into the first user turn, for templates without one (Gemma 2).
    omit: body fields that this server refuses, e.g. [seed]; rename: {max_tokens: max_completion_tokens} and the like;
    extra: fields that every request carries, e.g. {reasoning_effort: low}.
    reasoning_tokens: what a model that thinks aloud may use for it, on top of every request's max_tokens; stop texts
    then end the answer alone.
    top_logprobs: most alternatives per token that the server gives; 0 is what its engine gives.
    parallel: most requests under way at once; timeout: seconds for one of them.
    rpm, tpm: the provider's requests and tokens per minute, 0 for unlimited.
    price_in, price_out: USD per million prompt and completion tokens.
    speed: [tokens read, tokens written] a second, for the estimate of a run's time: all requests of an embedded model
    together, one request of another.
    batch: write calls as OpenAI batch files and read their results, instead of asking one by one.
    port, context: embedded servers only; context in tokens per request, prompt and answer together.
    """

    name: str
    base_url: str | list[str] = ""
    model: str = ""
    revision: str = ""
    key_env: str = ""
    dialect: str = "chat"
    style: str = ""
    engine: str = "openai"
    system: str = ""
    system_role: bool = True
    omit: tuple[str, ...] | list[str] = ()
    rename: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    reasoning_tokens: int = 0
    top_logprobs: int = 0
    package: str = ""
    gguf: str = ""
    folder: str = ""
    port: int = 0
    parallel: int = 8
    context: int = 2048
    timeout: float = 600.0
    rpm: float = 0.0
    tpm: float = 0.0
    price_in: float = 0.0
    price_out: float = 0.0
    speed: tuple[float, ...] | list[float] = ()
    batch: bool = False

    def __post_init__(self) -> None:
        """Fill the style in where it follows from the rest; refuse words that nothing else would notice."""
        if isinstance(self.omit, str):  # a single name is easily written without its brackets
            object.__setattr__(self, "omit", [self.omit])
        if not (isinstance(self.rename, dict) and isinstance(self.extra, dict)):
            raise KyaraError(f"{self.name}: rename and extra are mappings, as {{max_tokens: max_completion_tokens}}")
        usual = "completion" if self.dialect == "completion" else "brief" if self.embedded else "full"
        object.__setattr__(self, "style", self.style or usual)
        for name, known in (("style", STYLES), ("engine", ENGINES), ("dialect", ("chat", "completion"))):
            if getattr(self, name) not in known:
                raise KyaraError(f"{self.name}: {name} {getattr(self, name)!r} is none of {', '.join(known)}; set one")

    @property
    def embedded(self) -> bool:
        """Whether this process serves the model itself."""
        return bool(self.package or self.gguf or (self.folder and not self.base_url))

    @property
    def urls(self) -> list[str]:
        """Addresses of its replicas, without the path of a call or a slash at the end."""
        given = [self.base_url] if isinstance(self.base_url, str) else self.base_url
        found = [CALL.sub("", url.strip()).rstrip("/") for url in given if url]
        for url in found:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise KyaraError(f"{self.name}: base_url {url!r} is no address; it begins with https:// or http://")
        return found

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Price in USD."""
        return (prompt_tokens * self.price_in + completion_tokens * self.price_out) / 1e6


def is_local(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def load_models(root: Path | None = None) -> dict[str, Model]:
    """Read the registry; an unknown field is an error that names it."""
    path = (root or find_root()) / "params" / "models.yaml"
    models = {}
    for name, fields in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        try:
            models[name] = Model(name, **fields)
        except TypeError as error:
            raise KyaraError(f"{path}: {name}: {error}; known fields: {', '.join(Model.__annotations__)}") from error
    return models


def find_model(name: str, root: Path | None = None) -> Model:
    """Return the model called `name`."""
    models = load_models(root)
    if name not in models:
        raise KyaraError(f"no model {name} in params/models.yaml; {nearest(name, models)}; add yours there")
    return models[name]


def trained(name: str, model: Path, parallel: int = 4, context: int = 2048, root: Path | None = None) -> Model:
    """Return what answers for a model that a training step wrote, with the model's own chat template.

    model: its GGUF, or its folder: then the `model.gguf` in it or, for families that have none, the folder itself
    through transformers. An entry called `name` with a base_url in params/models.yaml answers instead; its answers are
    kept under the weights in `model`, so a model trained anew is asked anew. Without a base_url it says by its
    reasoning_tokens that the model thinks aloud.
    """
    path = Path(model)
    gguf = path / "model.gguf" if path.is_dir() else path
    given = load_models(root).get(name) or Model(name)
    if given.base_url:
        return replace(given, folder=str(path if path.is_dir() else path.parent))
    source = {"folder": str(path)} if path.is_dir() and not gguf.is_file() else {"gguf": str(gguf)}
    thinks = given.reasoning_tokens
    return Model(name, **source, parallel=parallel, context=context + thinks, reasoning_tokens=thinks)
