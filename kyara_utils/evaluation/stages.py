"""The models that are evaluated: base and what each training stage made of it, and the texts they were trained on.

A model that the GGUF export can write is asked through the embedded server, with every call in the ledger; one of
another family is asked through transformers in this process, with a journal of its answers beside the tables.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kyara_utils.evaluation.backends.backend import EndpointBackend, TransformersBackend
from kyara_utils.evaluation.contamination import training_texts
from kyara_utils.llm import Model, connect, find_model, trained
from kyara_utils.models.gguf_export import export_gguf, exportable
from kyara_utils.runs import Run, iter_rows

STEPS = {"sft": "05_sft", "dpo": "07_dpo"}
PACKAGED = "gemma-3-270m"  # its few-shot prompts suit a model that knows no turns
TRAINING = (("04_filtering", "base"), ("04_filtering", "refined"), ("06_dpo_pair_judging", "preferences"))


@dataclass(frozen=True)
class Stage:
    """base, sft or dpo: its transformers folder, and the served model, None where there is no GGUF of it."""

    name: str
    folder: Path
    model: Model | None


def stages(run: Run) -> list[Stage]:
    """Base, SFT and DPO; a base model that is no package is asked through its chat template, as the others are."""
    folders = {name: run.input(step, name) for name, step in STEPS.items()}
    files = {name: folder / "model.gguf" for name, folder in folders.items()}
    found = [
        Stage(name, folder, trained(name, files[name]) if files[name].is_file() else None)
        for name, folder in folders.items()
    ]
    return [_base(run), *found]


def _base(run: Run) -> Stage:
    base_model, folder = run.params_of("05_sft")["base_model"], run.input("05_sft", "base")
    model = None
    if base_model == PACKAGED:
        model = replace(find_model(base_model), name="base")
    elif exportable(folder):
        model = trained("base", export_gguf(folder, run.path("base.gguf")))
    return Stage("base", folder, model)


@contextmanager
def asked(stage: Stage, run: Run, budget: float = 0.0) -> Iterator[EndpointBackend | TransformersBackend]:
    """The backend of a stage, while it is asked; `budget` in USD as in `llm.connect`."""
    if stage.model is None:
        yield TransformersBackend(stage.folder, journal=run.path(f"answers_{stage.name}.jsonl"))
        return
    with connect(stage.model, run.store_path, run.input("01_corpus_indexing", "vocabulary"), budget) as client:
        yield EndpointBackend(client, stage.folder)


def texts_of(run: Run) -> Iterator[str]:
    """Every text that the stages were trained on, read as a stream."""
    for step, name in TRAINING:
        yield from training_texts(iter_rows(run.input(step, name)))
