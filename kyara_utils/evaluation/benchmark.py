"""What a benchmark is: six steps from its questions to its scores, most of them with a default that fits.

A benchmark is a class with a name, registered in `registry`; everything else (the notebook, the card's tables, the
contamination split, the golden check) loops over the registry and knows no name. `docs/add-a-benchmark.md` shows how
one is written. The shape is that of nanochat's `tasks/common.py` and of lm-evaluation-harness' task classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kyara_utils.evaluation import summary
from kyara_utils.evaluation.golden.figures import Figure
from kyara_utils.evaluation.scoring import LETTERS, UNSCORED
from kyara_utils.runs import sample
from kyara_utils.runs.tables import Row

Messages = list[dict[str, str]]
HUB = "hub"
QUESTION_FIELDS = ("question", "code", "input", "puzzle", *LETTERS)


@dataclass(frozen=True)
class Source:
    """Where questions may come from, and how many are wanted.

    `data` is a folder relative to `root`, "hub" for the Hub, or "" for $KYARA_EVAL_DATA alone. `limit` items are drawn
    from each benchmark by `seed`; `miniature` holds limits by name, of the bundled sets and of benchmarks that want
    another than `limit`. 0 takes all. `unseen` is the table of documents that step 01 set aside.
    """

    data: str = ""
    root: Path = Path()
    limit: int = 0
    seed: int = 0
    miniature: Mapping[str, int] = field(default_factory=dict)
    unseen: Path | None = None

    @property
    def hub(self) -> bool:
        """Whether the network may be asked."""
        return self.data == HUB

    @property
    def folder(self) -> Path | None:
        """The folder given, None without one."""
        return None if self.data in ("", HUB) else Path(self.root) / self.data

    def draw(self, items: Sequence[Row], name: str = "") -> list[Row]:
        """`limit` of the items (or what `miniature` says of this benchmark), in the order of their ids."""
        return sample(list(items), self.miniature.get(name, self.limit), self.seed)


@dataclass(frozen=True)
class Questions:
    """Items, each with an `id` of its own; `note` says what a reader must know about them.

    `material` is what a judge needs besides: its prompts and references.
    """

    items: list[Row]
    origin: str = ""
    note: str = ""
    material: Any = None


@dataclass(frozen=True)
class Judge:
    """Who reads answers that no rule can: a client, its name, and the pairs of models that are compared.

    `mode` is "text" or "logprob" (see `preference.judge`), `tie_margin` in log units.
    """

    client: Any
    name: str
    pairs: Sequence[tuple[str, str]] = ()
    mode: str = "text"
    tie_margin: float = 0.0


@dataclass(frozen=True)
class Given:
    """What a model wrote: the benchmark and item that it was asked, and its response {text, finish_reason, …}."""

    model: str
    benchmark: "Benchmark"
    item: Row
    response: Row


class Benchmark:
    """One benchmark: `load`, `prompt`, `ask`, `score`, `summarise`, `check`. A subclass overrides what differs.

    `metric` is its headline, `title` its line in the card when the published tables have none, `unit` "%" or "1-10",
    `dataset` where its questions are published, `decisive` the field of a scored row that models are compared by.
    """

    name = ""
    title = ""
    dataset = ""
    licence = ""
    metric = "accuracy"
    unit = "%"
    decisive = "outcome"
    outcomes: tuple[str, ...] = ("outcome",)  # fields that are unscored when there is no answer
    needs_judge = False
    miniature = False  # bundled and never shown as a benchmark's score

    def load(self, source: Source) -> Questions:
        """Return the questions. Raises KyaraError, one line saying why, when they are not at hand: not run then."""
        raise NotImplementedError

    def prompt(self, item: Row) -> Messages | str:
        """What a model is asked: a conversation for its chat template, or a bare text to go on with."""
        return [{"role": "user", "content": item["question"]}]

    def ask(self, backend: Any, items: Sequence[Row], max_tokens: int) -> list[Row]:
        """One response a item, in order: {id, text (None where the call failed), finish_reason, error}."""
        prompts = [self.prompt(item) for item in items]
        kinds = ["prompt" if isinstance(prompt, str) else "messages" for prompt in prompts]
        asks = [{"id": item["id"], kind: p} for item, kind, p in zip(items, kinds, prompts, strict=True)]
        return backend.generate(asks, max_tokens)

    def score(self, item: Row, text: str) -> Row:
        """Score one answer: {outcome: correct, wrong or unscored, …}. The text is untrusted and never evaluated."""
        raise NotImplementedError

    def unanswered(self, item: Row) -> Row:
        """The score of an item whose call failed: neither right nor wrong."""
        return dict.fromkeys(self.outcomes, UNSCORED)

    def score_all(self, questions: Questions, answers: Mapping[str, Sequence[Row]], judge: Judge | None) -> list[Row]:
        """Score {model: responses}; rows {benchmark, model, id, subject, outcome, text, …}.

        Override it where items are scored together, or by a judge.
        """
        return [
            {"benchmark": self.name, "model": model, "id": item["id"]} | self._scored(item, response)
            for model, responses in answers.items()
            for item, response in zip(questions.items, responses, strict=True)
        ]

    def _scored(self, item: Row, response: Row) -> Row:
        text = response["text"]
        found = self.unanswered(item) if text is None else self.score(item, text)
        kept = {"text": text or "", "finish_reason": response.get("finish_reason", ""), "reason": response["error"]}
        return {"subject": item.get("subject", "")} | kept | found

    def summarise(self, rows: list[Row]) -> list[Row]:
        """Score rows {benchmark, model, metric, value, n, unscored, low, high, protocol} of this benchmark's rows."""
        return summary.summarise_share(rows, self.metric, "greedy")

    def differences(self, rows: list[Row], pairs: Sequence[tuple[str, str]]) -> list[Row]:
        """Paired differences, a row for each pair of models that share a scored item (see `summary.compare`)."""
        found = [summary.compare_shared(rows, *pair, self.decisive) for pair in pairs]
        return [{"benchmark": self.name} | row for row in found if row]

    def text(self, item: Row) -> str:
        """What training text would quote of an item: its question, options, code or puzzle, one per line."""
        return "\n".join(str(item[name]) for name in QUESTION_FIELDS if name in item)

    def seen(self, item: Row) -> bool:
        """Whether an item is known to have been in training, whatever the training text holds of it."""
        return False

    def obeyed(self, item: Row, text: str) -> list[bool]:
        """Which of its prompt's instructions on form an answer keeps, one each; none are known by default."""
        return []

    def score_others(self, given: Sequence["Given"]) -> list[Row]:
        """Scored rows of what other benchmarks were answered, for one that asks nothing itself."""
        return []

    def check(self, folder: Path) -> Iterator[Figure]:
        """Published figures re-derived from published outputs below `folder`; nothing by default."""
        yield from ()
