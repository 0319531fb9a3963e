"""The evaluation as notebook 08 runs it: load, ask, score, summarise and compare whatever is registered.

Nothing here knows a benchmark's name. The bundled miniatures always run; a benchmark whose questions are not at hand is
not run, and says why.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kyara_utils.evaluation import contamination
from kyara_utils.evaluation.benchmark import Benchmark, Given, Judge, Questions, Source
from kyara_utils.evaluation.miniature.items import benchmark_names
from kyara_utils.evaluation.registry import benchmarks, get
from kyara_utils.evaluation.summary import by
from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

log = logging.getLogger(__name__)
Answers = dict[str, list[Row]]  # benchmark → one response a question
Pairs = Sequence[tuple[str, str]]


@dataclass
class Suite:
    """Questions by benchmark, and for every other one the reason why it is not run."""

    questions: dict[str, Questions] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def chosen(self, judged: bool) -> list[Benchmark]:
        """The loaded benchmarks that need a judge, or those that need none."""
        return [one for one in map(get, self.questions) if one.needs_judge == judged]

    def items(self, judged: bool) -> int:
        """Their questions, counted."""
        return sum(len(self.questions[one.name].items) for one in self.chosen(judged))

    @property
    def real(self) -> list[str]:
        """Names of the loaded benchmarks that are no miniatures."""
        return [name for name in self.questions if not get(name).miniature]

    def plan(self) -> str:
        """One line a benchmark: how many items will run, or why none."""
        lines = [
            f"{name}: {len(found.items)} items" + (f" ({found.note})" if found.note else "")
            for name, found in self.questions.items()
        ]
        return "\n".join([*lines, *(f"{name}: {reason}" for name, reason in self.reasons.items())])


def load(source: Source) -> Suite:
    """Load every registered benchmark. Reasons name the folder as it was given, since they end up in cards.

    Raises KyaraError for a limit of a bundled set that does not exist.
    """
    if strange := source.miniature.keys() - benchmarks().keys() - set(benchmark_names()):
        raise KyaraError(f"no bundled set {', '.join(sorted(strange))}; known: {', '.join(benchmark_names())}")
    suite, cache = Suite(), str(cache_dir() / "benchmarks")
    for name, one in benchmarks().items():
        try:
            suite.questions[name] = one.load(source)
        except KyaraError as error:
            why = str(error).replace(cache, "the cache")
            suite.reasons[name] = f"not run: {why.replace(str(source.folder), source.data) if source.folder else why}"
            log.debug("%s: %s", name, suite.reasons[name])
    return suite


def ask(backend: Any, suite: Suite, max_tokens: int) -> Answers:
    """Answers of one model to every question (see `backends.backend` for what may be asked)."""
    return {name: get(name).ask(backend, found.items, max_tokens) for name, found in suite.questions.items()}


def score(suite: Suite, answers: Mapping[str, Answers], judge: Judge | None = None) -> list[Row]:
    """Scored rows of all models, `answers` = {model: answers}: without a `judge` of the benchmarks that need none, with
    one of those that do."""
    if judge is None:
        rows = [
            row
            for model, given in answers.items()
            for one in suite.chosen(judged=False)
            for row in one.score_all(suite.questions[one.name], {model: given[one.name]}, None)
        ]
        written = list(generated(suite, answers))
        return rows + [row for one in suite.chosen(judged=False) for row in one.score_others(written)]
    rows = []
    for one in suite.chosen(judged=True):
        given = {model: mine[one.name] for model, mine in answers.items()}
        rows += one.score_all(suite.questions[one.name], given, judge)
    return rows


def generated(suite: Suite, answers: Mapping[str, Answers]) -> Iterator[Given]:
    """Every text that a model wrote; failed calls and letters chosen by log-probability are none."""
    for model, given in answers.items():
        for name, found in suite.questions.items():
            for item, response in zip(found.items, given[name], strict=True):
                if response.get("text") is not None:
                    yield Given(model, get(name), item, response)


def compared(judged: Iterable[Row]) -> list[Row]:
    """Of judged rows, those of model against model."""
    return [row for row in judged if "model_b" in row]


def rated(judged: Iterable[Row]) -> list[Row]:
    """Of judged rows, those of one model: a rating, or the share won against a published baseline."""
    return [row for row in judged if "model_b" not in row]


def summarise(rows: Iterable[Row]) -> list[Row]:
    """Score rows of scored rows, benchmark by benchmark; those of no miniature name their `dataset`."""
    return [
        score | _dataset(name) for (name,), mine in by(rows, "benchmark").items() for score in get(name).summarise(mine)
    ]


def _dataset(name: str) -> Row:
    one = get(name)
    return {} if one.miniature or one.needs_judge else {"dataset": one.dataset or name}


def pairs(models: Sequence[str]) -> list[tuple[str, str]]:
    """Which models are compared: each stage with the one before, then each later one with the first."""
    steps = [(later, earlier) for earlier, later in pairwise(models)]
    return steps + [(later, models[0]) for later in models[2:]]


def steps(models: Sequence[str]) -> list[tuple[str, str]]:
    """Each stage with the one before: what the miniatures compare and a judge is paid for."""
    return pairs(models)[: len(models) - 1]


def differences(rows: Iterable[Row], models: Sequence[str]) -> list[Row]:
    """Paired differences on the items that both models have scored, for all benchmarks in `rows`."""
    found = []
    for (name,), mine in by(rows, "benchmark").items():
        chosen = steps(models) if get(name).miniature else pairs(models)
        found += [row | _dataset(name) for row in get(name).differences(mine, chosen)]
    return found


def split(suite: Suite, rows: Iterable[Row], training: Iterable[str]) -> tuple[list[Row], int]:
    """Scores of the items that the training texts hold and of those they do not, and how many they hold.

    For the benchmarks that need no judge; the texts are read once (see `contamination`).
    """
    chosen = [one for one in suite.chosen(judged=False)]
    texts = {
        one.name: {item["id"]: text for item in suite.questions[one.name].items if (text := one.text(item))}
        for one in chosen
    }
    shares, mine = contamination.seen_in(texts, training), by(rows, "benchmark")
    for one in chosen:  # known to be in training, though no text of theirs is found
        shares[one.name] |= {item["id"]: 1.0 for item in suite.questions[one.name].items if one.seen(item)}
    found = [
        row
        for one in chosen
        if texts[one.name]
        for row in contamination.split_scores(mine.get((one.name,), []), shares[one.name], one.summarise)
    ]
    return found, sum(bool(share) for known in shares.values() for share in known.values())
