"""The test after training: does the model answer, stop, keep to the script it was asked in, leave the template alone?

A model trained with a wrong mask or template shows here first: it does not stop, or writes the template's own tokens.
"""

from collections.abc import Sequence
from pathlib import Path

from kyara_utils.llm import Request, connect
from kyara_utils.llm import trained as trained_model
from kyara_utils.models.chat_templates import token_ids
from kyara_utils.models.generation import Ask, generate
from kyara_utils.models.loading import load_model, load_tokenizer
from kyara_utils.runs.tables import Row
from kyara_utils.text.normalise import script_of

BATCH = 8  # conversations that transformers answers at once
CHECKS = ("stopped", "right_script", "template_intact")


def generation_test(
    name: str, model_dir: Path, conversations: list[list[dict[str, str]]], store: Path, max_tokens: int = 200
) -> list[Row]:
    """Answer conversations that end with a user turn, greedily, by `model.gguf` in the folder or by transformers.

    Rows: question, answer, stopped (by itself within `max_tokens`), right_script (that of the question, where both
    have one), template_intact (no token of the chat template within the answer). `store`: the recipe's ledger.
    """
    if (model_dir / "model.gguf").is_file():
        with connect(trained_model(name, model_dir / "model.gguf"), store) as client:
            requests = [Request(messages, max_tokens, repeat_penalty=1.1) for messages in conversations]
            found = client.ask(requests, label=f"generation test of {name}", progress=False)
        answers = [(answer.text, answer.finish_reason == "stop") for answer in found]
    else:
        answers = answer_by_transformers(model_dir, conversations, max_tokens)
    asked, marks = [messages[-1]["content"] for messages in conversations], template_marks(load_tokenizer(model_dir))
    return [judged(question, *answer, marks) for question, answer in zip(asked, answers, strict=True)]


def template_marks(tokenizer) -> list[str]:
    """Return the texts that belong to the template and not into an answer: the tokenizer's special tokens."""
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


def judged(question: str, answer: str, stopped: bool, marks: Sequence[str]) -> Row:
    """Return one row of the test; `marks` from `template_marks`."""
    script = script_of(question, default="mixed")
    return {
        "question": question, "answer": answer, "stopped": stopped,
        "right_script": script in ("mixed", script_of(answer, default=script)),
        "template_intact": bool(answer.strip()) and not any(mark in answer for mark in marks),
    }  # fmt: skip


def generation_rows(name: str, rows: list[Row]) -> list[Row]:
    """Return one row for each of `CHECKS`: model, check, passed, n."""
    return [
        {"model": name, "check": check, "passed": sum(row[check] for row in rows), "n": len(rows)} for check in CHECKS
    ]


def answer_by_transformers(
    model_dir: Path, conversations: list[list[dict[str, str]]], max_tokens: int
) -> list[tuple[str, bool]]:
    """Return (answer with any special tokens in it, whether a stop token ended it), greedily."""
    tokenizer, model = load_tokenizer(model_dir), load_model(model_dir).eval()
    asks = [Ask(token_ids(tokenizer, messages, add_generation_prompt=True), max_tokens) for messages in conversations]
    batches = [asks[at : at + BATCH] for at in range(0, len(asks), BATCH)]
    found = [answer for batch in batches for answer in generate(model, tokenizer, batch, special=True)]
    return [(answer.text, answer.finish_reason == "stop") for answer in found]
