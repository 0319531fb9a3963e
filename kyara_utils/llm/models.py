"""Models by name: what a parameter may say, and where the answer comes from (`params/models.yaml`)."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from kyara_utils.runs.env import find_root
from kyara_utils.runs.errors import KyaraError


@dataclass(frozen=True)
class Model:
    """One model behind an OpenAI-compatible server, ours (`gguf`) or somebody's (`base_url`).

    dialect: `chat` lets the server apply the model's template, `plain` renders few-shot text for a base model.
    system: said first to a chat model when the messages bring no system turn of their own.
    parallel: requests under way at once; context: tokens per request (embedded servers only).
    """

    name: str
    base_url: str = ""
    model: str = ""
    key_env: str = ""
    dialect: str = "chat"
    system: str = ""
    package: str = ""
    gguf: str = ""
    port: int = 0
    parallel: int = 8
    context: int = 2048

    @property
    def embedded(self) -> bool:
        """Whether this process serves the model itself."""
        return bool(self.package or self.gguf)


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
        raise KyaraError(f"no model {name} in params/models.yaml; it has {', '.join(models)}; add yours there")
    return models[name]


def trained(name: str, gguf: Path, parallel: int = 4, context: int = 2048) -> Model:
    """Return a model for a GGUF file that a training step wrote; it carries its own chat template."""
    return Model(name, gguf=str(gguf), dialect="chat", parallel=parallel, context=context)
