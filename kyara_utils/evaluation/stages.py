"""The models that are evaluated: base and what each training stage made of it, and the texts they were trained on.

Each is served in this process, as in steps 06 and 07: by llama.cpp where the GGUF export can write it, through
transformers where it is of another family. Every call is in the ledger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kyara_utils.evaluation.backends.backend import EndpointBackend
from kyara_utils.evaluation.contamination import training_texts
from kyara_utils.llm import Model, connect, find_model, trained
from kyara_utils.models.serving import servable
from kyara_utils.runs import Run, iter_rows

STEPS = {"sft": "05_sft", "dpo": "07_dpo"}
PROMPT, TURNS = 2048, 2  # tokens of a question, turns of a conversation that are answered
PACKAGED = "gemma-3-270m"  # its few-shot prompts suit a model that knows no turns
TRAINING = (("04_filtering", "base"), ("04_filtering", "refined"), ("06_dpo_pair_judging", "preferences"))


@dataclass(frozen=True)
class Stage:
    """base, sft or dpo: its transformers folder, and what answers for it."""

    name: str
    folder: Path
    model: Model


def stages(run: Run, max_tokens: int) -> list[Stage]:
    """Base, SFT and DPO, with room for `max_tokens` in every answer; a base model that is no package is asked through
    its chat template, as the others are."""
    context = PROMPT + TURNS * max_tokens
    folders = {name: run.input(step, name) for name, step in STEPS.items()}
    found = [Stage(name, folder, trained(name, folder, context=context)) for name, folder in folders.items()]
    return [_base(run, context), *found]


def _base(run: Run, context: int) -> Stage:
    base_model, folder = run.params_of("05_sft")["base_model"], run.input("05_sft", "base")
    if base_model == PACKAGED:
        return Stage("base", folder, replace(find_model(base_model), name="base", context=context))
    model = trained("base", folder, context=context)
    if model.embedded:
        model = trained("base", servable(folder, run.path("base.gguf")), context=context)
    return Stage("base", folder, model)


@contextmanager
def asked(stage: Stage, run: Run, budget: float = 0.0) -> Iterator[EndpointBackend]:
    """The backend of a stage, while it is asked; `budget` in USD as in `llm.connect`."""
    with connect(stage.model, run.store_path, run.input("01_corpus_indexing", "vocabulary"), budget) as client:
        yield EndpointBackend(client, stage.folder)


def texts_of(run: Run) -> Iterator[str]:
    """Every text that the stages were trained on, read as a stream."""
    for step, name in TRAINING:
        yield from training_texts(iter_rows(run.input(step, name)))
