"""What of a finished run goes to the Hub, and where: a dataset, the trained model and its GGUF, each with its card.

Tables and cards are written into the run's folder `hub`, where they can be looked at before anything leaves the
machine; weights are taken from where they lie.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kyara_utils.report import publication
from kyara_utils.report.card_facts import UNKNOWN, data_licence, model_licence
from kyara_utils.report.cards import file_of
from kyara_utils.report.data_sets import borrowed, sets_of
from kyara_utils.report.site.entries import FILTERING, PAIRS, Found, path_of
from kyara_utils.runs import KyaraError, RowWriter, finished, trained_models
from kyara_utils.runs.env import find_root, runs_dir, writable
from kyara_utils.runs.files import replace_text
from kyara_utils.runs.schemas import stored_schema

PLOTS = "09_plots"
DATASET, MODEL, GGUF = "dataset", "model", "gguf"
WEIGHTS, PAIR_CARD = "model.gguf", "PREFERENCES.md"
NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms\n"


@dataclass(frozen=True)
class Repository:
    """One repository of the Hub: what it is (`dataset`, `model`, `gguf`), its name, its licence, its files.

    files: {path in the repository: file on this machine}; notes: what to know before it is sent.
    """

    kind: str
    name: str
    licence: str
    files: dict[str, Path]
    notes: tuple[str, ...] = ()

    @property
    def hub_type(self) -> str:
        """What the Hub calls it."""
        return DATASET if self.kind == DATASET else MODEL

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())


def repositories(
    recipe: str, to: str, only: str = "", model: str = "", licence: str = "", model_licence: str = ""
) -> list[Repository]:
    """Write what is to be published into `runs/RECIPE/hub/` and return the repositories, the dataset first.

    to: `OWNER/NAME`; the dataset and the model take this name, the GGUF `NAME-GGUF`. only: one of `dataset`, `model`,
    `gguf`. model: `sft` or `dpo`, else the newest. Licences are the Hub's identifiers, of the documents and of a model
    whose licence its type does not tell. Raises `KyaraError` where a step, a model or a valid name is missing.
    """
    _check_names(to, only)
    found = finished(recipe)
    if missing := [step for step in (FILTERING, PLOTS) if step not in found]:
        raise KyaraError(f"{missing[0]} is not done; run: python -m kyara_utils run {recipe} --to {missing[0][:2]}")
    folder = writable(runs_dir(find_root()) / recipe / "hub", "the folder of what is published")
    plan = _Plan(found, folder, to, model, licence, model_licence)
    makers: dict[str, Callable[[], Repository]] = {DATASET: plan.dataset, MODEL: plan.model, GGUF: plan.gguf}
    return [makers[kind]() for kind in makers if only in ("", kind) and (only or kind != GGUF or plan.has_gguf)]


class _Plan:
    def __init__(self, found: Found, folder: Path, to: str, model: str, licence: str, model_licence: str) -> None:
        self.found, self.folder, self.to = found, folder, to
        self.licence, self.given = licence, model_licence
        self.data = path_of(found, PLOTS, "data") or Path()
        self.trained = trained_models(found)
        self.name = model or next(reversed(self.trained), "")

    @property
    def weights(self) -> Path:
        """The folder of the model that is published."""
        if self.name not in self.trained:
            known = ", ".join(self.trained) or "none"
            raise KyaraError(f"no trained model {self.name!r} (trained: {known}); run steps 05 and 07, or give --model")
        return self.trained[self.name]

    @property
    def has_gguf(self) -> bool:
        """Whether the model was written as a GGUF: not every family is."""
        return self.name in self.trained and (self.weights / WEIGHTS).exists()

    def dataset(self) -> Repository:
        """All sets as Parquet, one file a split."""
        folder, sets = _emptied(self.folder / DATASET), sets_of(self.found)
        for one in sets:
            with RowWriter(folder / file_of(one), stored_schema(one.paths[0])) as out:
                out.extend(one.rows())
        card = publication.dataset_text(self.found, self.data, _title(self.to), self.to, self.licence)
        replace_text(folder / "README.md", card)
        if PAIRS in self.found:
            pairs = (self.found, self.data, f"{_title(self.to)}-preferences", self.licence)
            replace_text(folder / PAIR_CARD, publication.preference_text(*pairs, published=True))
        licence = data_licence(self.found, self.licence)
        shown = UNKNOWN if UNKNOWN in licence.values() else licence.get("license_name", licence["license"])
        kept = borrowed(sets).items()
        notes = tuple(f"rows of {source}: {rows:,}, licence: {terms}" for (source, terms), rows in kept)
        return Repository(DATASET, self.to, shown, _files(folder), notes)

    def model(self) -> Repository:
        """Weights, tokenizer and the record of the training."""
        folder = _emptied(self.folder / MODEL)
        weights = {name: path for name, path in _files(self.weights).items() if path.suffix != ".gguf"}
        names = {"model": self.name, "repository": self.to, "dataset": self.to, "licence": self.given}
        replace_text(folder / "README.md", publication.model_text(self.found, self.data, _title(self.to), **names))
        return Repository(MODEL, self.to, self._terms(folder), weights | _files(folder))

    def gguf(self) -> Repository:
        """The one file that llama.cpp, Ollama and LM Studio read."""
        if not self.has_gguf:
            raise KyaraError(f"{self.name or 'no model'} has no {WEIGHTS}: only Gemma 2 and 3 are written as GGUF here")
        folder = _emptied(self.folder / GGUF)
        file = f"{_title(self.to)}-{_quantisation(self.weights / WEIGHTS)}.gguf"
        licence = self._terms(folder)
        values = {"name": _title(self.to), "model": self.to, "file": file, "licence": licence, "to": f"{self.to}-GGUF"}
        replace_text(folder / "README.md", rendered("gguf_card.md.jinja", **values))
        return Repository(GGUF, f"{self.to}-GGUF", licence, {file: self.weights / WEIGHTS} | _files(folder))

    def _terms(self, folder: Path) -> str:
        """The model's licence; Gemma's terms want a notice beside the weights."""
        licence = model_licence(self.weights, self.given)
        if licence == "gemma":
            replace_text(folder / "NOTICE", NOTICE)
        return licence


def _check_names(to: str, only: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if to.count("/") != 1:
        raise KyaraError(f"--to {to}: give OWNER/NAME, with your name or organisation on the Hub as OWNER")
    try:
        validate_repo_id(f"{to}-GGUF")
    except HFValidationError as error:
        raise KyaraError(f"--to {to} is no name of the Hub ({str(error).splitlines()[0]}); give another") from error
    if only not in ("", DATASET, MODEL, GGUF):
        raise KyaraError(f"--only {only}: give {DATASET}, {MODEL} or {GGUF}")


def _title(to: str) -> str:
    return to.partition("/")[2]


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return writable(folder, "the folder of what is published")


def _files(folder: Path) -> dict[str, Path]:
    """{path in it: file} of a folder's files in order; hidden ones and a trainer's checkpoints stay at home."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder): path for path in paths}
    return {
        name.as_posix(): path
        for name, path in names.items()
        if not any(part.startswith((".", "checkpoint")) for part in name.parts)
    }


def _quantisation(path: Path) -> str:
    """The file's number type as names of GGUF files say it, e.g. Q8_0."""
    from kyara_utils.models.gguf_export import FILE_TYPES
    from kyara_utils.models.gguf_file import read_gguf

    names = {number: name.upper() for name, number in FILE_TYPES.items()}
    return names[int(read_gguf(path).need("general.file_type"))]


def rendered(template: str, **values: Any) -> str:
    """A text of `templates` with its values; undefined names are errors."""
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    return environment.get_template(template).render(**values)
