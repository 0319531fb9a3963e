"""Where answers come from: a transformers model, an OpenAI-compatible endpoint, or stored answers without any model.

All three have the same methods, so a benchmark does not know which it runs on:

`generate(asks, max_tokens, stop)`: asks {id, prompt} or {id, messages} → rows {id, text, finish_reason, error};
`converse(asks, max_tokens)`: asks {id, turns} → the same rows with `turns`, the answer to each (see `conversation`);
`weights()`: (model, tokenizer) of transformers for what needs the model itself, or None;
`usage`: what the calls of an endpoint cost, {} elsewhere;
`examples`: whether the model is shown worked examples where a benchmark has them, as a base model must be;
`choose(items)`: exam items (see `exam_prompt`) → rows {id, subject, group, answer, logprobs, chosen, outcome, margin,
reason}. What cannot be answered has text None or the outcome `unscored`, and says why; nothing is made up.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kyara_utils.evaluation.backends import conversation, generating
from kyara_utils.evaluation.backends.journal import Journal, answer_key, fingerprint
from kyara_utils.evaluation.backends.letters import choice_row, choice_rows, exam_prompt
from kyara_utils.evaluation.backends.loglikelihood import choice_logprobs
from kyara_utils.evaluation.scored.exam import score_response
from kyara_utils.evaluation.scoring import LETTERS
from kyara_utils.llm import Request, label_logprobs
from kyara_utils.llm.ask import TOP
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row


class TransformersBackend:
    """A model in this process: a folder, a Hub name, or a loaded `model` with its `tokenizer`.

    `journal` names a JSONL file that makes a run resumable; answers of other weights never match its keys.
    `token_budget`: padded tokens a batch, 0 for what suits the device.
    """

    def __init__(self, model: Any, tokenizer: Any = None, journal: Path | None = None, token_budget: int = 0):
        loaded = load_model(model) if isinstance(model, str | Path) else (model, tokenizer)
        self.model, self.tokenizer = loaded
        if self.tokenizer is None:
            raise KyaraError("a loaded model needs its tokenizer; pass both, or the model's folder")
        self.model.eval()
        self.usage: Row = {}
        self.examples = False
        self.journal, self.token_budget = Journal(journal) if journal else None, token_budget

    def choose(self, items: Sequence[Row]) -> list[Row]:
        """Letters A–D by log-likelihood, see `kyara_utils.evaluation.backends.loglikelihood`."""

        def work(prompts: list[str], done: Callable[[int, Any], None]) -> None:
            choices = [LETTERS] * len(prompts)
            choice_logprobs(self.model, self.tokenizer, prompts, choices, self.token_budget, done)

        values = self._resumed([exam_prompt(item) for item in items], {"choices": LETTERS}, work)
        return choice_rows(items, [dict(zip(LETTERS, row, strict=True)) for row in values])

    def generate(self, asks: Sequence[Row], max_tokens: int = 256, stop: Sequence[str] = ()) -> list[Row]:
        """Greedy answers, batched by length; conversations go through the model's chat template."""

        def work(prompts: list[str], done: Callable[[int, Any], None]) -> None:
            budget = self.token_budget or generating.TOKEN_BUDGET
            generating.generate_texts(self.model, self.tokenizer, prompts, max_tokens, stop, budget, done)

        prompts = [
            ask["prompt"] if "prompt" in ask else generating.render(self.tokenizer, ask["messages"]) for ask in asks
        ]
        values = self._resumed(prompts, {"max_tokens": max_tokens, "stop": list(stop)}, work)
        return [{"id": ask["id"], **value, "error": ""} for ask, value in zip(asks, values, strict=True)]

    def converse(self, asks: Sequence[Row], max_tokens: int = 256) -> list[Row]:
        """Greedy answers, turn by turn, through the model's chat template."""

        def reply(conversations: list[list[Row]]) -> list[Row]:
            return self.generate([{"id": i, "messages": one} for i, one in enumerate(conversations)], max_tokens)

        return conversation.by_turns(asks, conversation.chat, reply)

    def weights(self) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        return self.model, self.tokenizer

    def _resumed(self, prompts: list[str], settings: Row, work: Callable) -> list[Any]:
        """Answers in order; only prompts without a kept answer are worked on, each once."""
        journal = self.journal or Journal()
        weights = fingerprint(self.model) if self.journal else ""  # each time: training may have changed them
        keys = [answer_key(weights, prompt, settings) for prompt in prompts]
        todo = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in journal.found}
        missing = list(todo)
        if missing:
            work(list(todo.values()), lambda i, value: journal.put(missing[i], value))
        return [journal.found[key] for key in keys]


def load_model(name: str | Path) -> tuple[Any, Any]:
    """Load a causal model and its tokenizer on the best device, in the precision that device is right in."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kyara_utils.runs.env import device_and_dtype, keep_soft_caps

    keep_soft_caps()
    device, dtype, _ = device_and_dtype()
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
        return model.to(device), AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise KyaraError(f"cannot load {name} ({reason}); give a transformers folder or a Hub name") from error


class EndpointBackend:
    """A `kyara_utils.llm.Client`: every response is stored by the client, so a rerun asks only for what is missing.

    `folder` holds the same model for transformers, where there is one: lm-evaluation-harness needs it.
    """

    def __init__(self, client: Any, folder: Path | None = None, examples: bool = False):
        self.client, self.folder = client, folder
        self.examples = examples or client.model.dialect == "completion"
        self.loaded: tuple[Any, Any] | None = None

    @property
    def usage(self) -> Row:
        """The client's calls, tokens and money so far."""
        return self.client.usage

    def choose(self, items: Sequence[Row]) -> list[Row]:
        """Letters from the top log-probabilities after the bare prompt; a letter the server leaves out is unscored."""
        requests = [Request(_user(exam_prompt(item)), max_tokens=1, top_logprobs=TOP, raw=True) for item in items]
        found = self.client.ask(requests, label="multiple choice")
        tables = [label_logprobs(response, LETTERS) for response in found]
        return choice_rows(items, tables, [response.error for response in found])

    def generate(self, asks: Sequence[Row], max_tokens: int = 256, stop: Sequence[str] = ()) -> list[Row]:
        """Greedy answers: conversations through the server's chat template, prompts as bare text."""
        requests = [
            Request(ask.get("messages") or _user(ask["prompt"]), max_tokens, stop=tuple(stop), raw="prompt" in ask)
            for ask in asks
        ]
        found = self.client.ask(requests, label="answers")
        return [{"id": ask["id"], **conversation.answered(response)} for ask, response in zip(asks, found, strict=True)]

    def converse(self, asks: Sequence[Row], max_tokens: int = 256) -> list[Row]:
        """Greedy answers, turn by turn; a base model answers behind worked examples."""
        return conversation.converse(self.client, asks, max_tokens)

    def weights(self) -> tuple[Any, Any] | None:
        """The model of `folder`, loaded once."""
        if self.folder is not None and self.loaded is None:
            self.loaded = load_model(self.folder)
        return self.loaded


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class ReplayBackend:
    """Stored answers keyed by id: rows {id, text (or response, or output)} and, for exams, logprobs {letter: nats}.

    No model is asked and prompts are not looked at. A missing id, or one stored twice with different content, stays
    unscored and says so.
    """

    def __init__(self, rows: Sequence[Row]):
        self.rows: dict[str, Row] = {}
        self.examples = False
        self.doubtful: set[str] = set()
        for row in rows:
            if "id" not in row:
                raise KyaraError("a stored answer has no id; give every row the id of its question")
            known = self.rows.setdefault(row["id"], row)
            if known != row:
                self.doubtful.add(row["id"])

    def generate(self, asks: Sequence[Row], max_tokens: int = 0, stop: Sequence[str] = ()) -> list[Row]:
        """The stored texts; `max_tokens` and `stop` were settled when they were made."""
        return [self._stored(ask["id"]) for ask in asks]

    def converse(self, asks: Sequence[Row], max_tokens: int = 0) -> list[Row]:
        """The stored texts; where several turns are stored they are a list under `turns`."""
        rows = [self._stored(ask["id"]) for ask in asks]
        stored = [self.rows.get(row["id"], {}).get("turns") or [row["text"] or ""] for row in rows]
        return [
            row | {"turns": turns, "text": None if row["error"] else "\n".join(turns)}
            for row, turns in zip(rows, stored, strict=True)
        ]

    def weights(self) -> None:
        """There is no model."""

    def choose(self, items: Sequence[Row]) -> list[Row]:
        """Letters from stored log-probabilities, else what TC-Eval's rule reads in the stored text."""
        return [self._chosen(item, self._stored(item["id"])) for item in items]

    def _chosen(self, item: Row, stored: Row) -> Row:
        table = {} if stored["error"] else self.rows[item["id"]].get("logprobs") or {}
        row = choice_row(item, table, stored["error"], None)
        if not table and stored["text"]:
            read = score_response(stored["text"], item["answer"])
            row |= {"outcome": read["strict"], "chosen": read["strict_answer"]}
            row["reason"] = "" if read["strict_answer"] else "the stored text states no letter"
        return row

    def _stored(self, name: str) -> Row:
        row = self.rows.get(name)
        error = "no stored answer" if row is None else ""
        if name in self.doubtful:
            error = "two different answers are stored under this id"
        text = None if error else next((row[key] for key in ("text", "response", "output") if key in row), None)
        text = "".join(text[:1]) if isinstance(text, list) else text
        return {"id": name, "text": text, "finish_reason": (row or {}).get("finish_reason", ""), "error": error}
