"""The models that are evaluated: base and what each training stage made of it, and the texts they were trained on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kyara_utils.evaluation.contamination import training_texts
from kyara_utils.llm import find_model, trained
from kyara_utils.llm.endpoints import Model
from kyara_utils.models.gguf_export import export_gguf
from kyara_utils.runs import Run, iter_rows

STEPS = {"sft": "05_sft", "dpo": "07_dpo"}
PACKAGED = "gemma-3-270m"  # its few-shot prompts suit a model that knows no turns
TRAINING = (("04_filtering", "base"), ("04_filtering", "refined"), ("06_dpo_pair_judging", "preferences"))


@dataclass(frozen=True)
class Stage:
    """A model to ask, and its transformers folder, which lm-evaluation-harness needs."""

    model: Model
    folder: Path

    @property
    def name(self) -> str:
        """base, sft or dpo."""
        return self.model.name


def stages(run: Run) -> list[Stage]:
    """Base, SFT and DPO; a base model that is no package is asked through its chat template, as the others are."""
    base_model, folder = run.params_of("05_sft")["base_model"], run.input("05_sft", "base")
    if base_model == PACKAGED:
        base = replace(find_model(base_model), name="base")
    else:
        base = trained("base", export_gguf(folder, run.path("base.gguf")))
    folders = {name: run.input(step, name) for name, step in STEPS.items()}
    return [Stage(base, folder), *(Stage(trained(name, path / "model.gguf"), path) for name, path in folders.items())]


def texts_of(run: Run) -> Iterator[str]:
    """Every text that the stages were trained on, read as a stream."""
    for step, name in TRAINING:
        yield from training_texts(iter_rows(run.input(step, name)))
