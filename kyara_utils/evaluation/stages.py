"""The models that are evaluated: base, what each training stage made of it, the teacher; and the training texts.

Each is served in this process, as in steps 06 and 07: by llama.cpp where the GGUF export can write it, through
transformers where it is of another family. Every call is in the ledger.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kyara_utils.evaluation.backends.backend import EndpointBackend
from kyara_utils.evaluation.contamination import training_texts
from kyara_utils.llm import Model, connect, find_model, trained
from kyara_utils.models.serving import servable
from kyara_utils.runs import KyaraError, Run, iter_rows, read_csv
from kyara_utils.runs.tables import Row

JUDGED = "06_dpo_pair_judging"
STEPS = {"sft_base": "05_sft", "sft": "05_sft", "dpo": "07_dpo"}
BASE, TEMPLATED = "base", "base_chat"  # behind worked examples, and through the chat template
PROMPT, TURNS = 2048, 2  # tokens of a question, turns of a conversation that are answered
PACKAGED = "gemma-3-270m"  # its few-shot prompts suit a model that knows no turns
TRAINING = (("04_filtering", "base"), ("04_filtering", "refined"), (JUDGED, "preferences"))


@dataclass(frozen=True)
class Stage:
    """A model by its name in the tables, its transformers folder where there is one, and what answers for it.

    `examples`: it is shown worked examples where a benchmark has them.
    """

    name: str
    folder: Path | None
    model: Model
    examples: bool = False


def stages(run: Run, max_tokens: int, names: Sequence[str], teachers: Sequence[str] = ()) -> list[Stage]:
    """The models called `names`, of `base`, `base_chat`, `sft_base`, `sft` and `dpo`, with room for `max_tokens` in
    every answer; last the teachers (names of params/models.yaml). Raises KyaraError for another name."""
    context = PROMPT + TURNS * max_tokens
    if strange := [name for name in names if name not in (BASE, TEMPLATED, *STEPS)]:
        raise KyaraError(f"no model {strange[0]} to evaluate; known: {', '.join((BASE, TEMPLATED, *STEPS))}")
    found = [_stage(run, name, context) for name in names]
    return found + [Stage(teacher, None, find_model(teacher), examples=True) for teacher in teachers]


def _stage(run: Run, name: str, context: int) -> Stage:
    if name in STEPS:
        folder = run.input(STEPS[name], name)
        return Stage(name, folder, trained(name, folder, context=context))
    folder, packaged = run.input("05_sft", "base"), run.params_of("05_sft")["base_model"] == PACKAGED
    if packaged and name == BASE:
        return Stage(name, folder, replace(find_model(PACKAGED), name=name, context=context), examples=True)
    model = trained(name, folder, context=context)
    if model.embedded:
        model = trained(name, servable(folder, run.path("base.gguf")), context=context)
    return Stage(name, folder, model, examples=name == BASE)


@contextmanager
def asked(stage: Stage, run: Run, budget: float = 0.0) -> Iterator[EndpointBackend]:
    """The backend of a stage, while it is asked; `budget` in USD as in `llm.connect`."""
    with connect(stage.model, run.store_path, run.input("01_corpus_indexing", "vocabulary"), budget) as client:
        yield EndpointBackend(client, stage.folder, stage.examples)


def judge_tests(run: Run) -> list[Row]:
    """What step 06 found when it tested its judges; empty where it has not been run."""
    return read_csv(run.input(JUDGED, "judge_tests")) if run.has(JUDGED) else []


def texts_of(run: Run) -> Iterator[str]:
    """Every text that the stages were trained on, as far as the steps are done, read as a stream."""
    for step, name in ((step, name) for step, name in TRAINING if run.has(step)):
        yield from training_texts(iter_rows(run.input(step, name)))
