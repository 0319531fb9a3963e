"""Greedy answers from a transformers model, batched by length so that padding costs little.

Short and long prompts in one batch make every short one pay for the long one; sorting fixes that, and a batch ends
when its last answer ends.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kyara_utils.models.generation import Ask, generate, prompt_ids
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

TOKEN_BUDGET = 4096  # prompt and answer tokens a batch


def generate_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    max_tokens: int = 256,
    stop: Sequence[str] = (),
    token_budget: int = TOKEN_BUDGET,
    done: Callable[[int, Row], None] | None = None,
) -> list[Row]:
    """Return {text, finish_reason} for every prompt, in order; finish_reason is `stop` or `length`.

    Prompts are texts as the model reads them (see `render`). The answer ends before the first `stop` text.
    `done(i, row)` is called as soon as prompt i is answered, so that a caller can keep it.
    """
    encoded = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    if not all(encoded):
        raise KyaraError("an empty prompt cannot be answered; remove the item")
    found: list[Row] = [{} for _ in prompts]
    for batch in _batches([len(ids) for ids in encoded], max_tokens, token_budget):
        answers = generate(model, tokenizer, [Ask(encoded[i], max_tokens, stop=tuple(stop)) for i in batch])
        for position, answer in zip(batch, answers, strict=True):
            found[position] = {"text": answer.text, "finish_reason": answer.finish_reason}
            if done:
                done(position, found[position])
    return found


def render(tokenizer: Any, messages: list[Row]) -> str:
    """Return a conversation as text, ready for the assistant's turn, by the model's own chat template."""
    if not tokenizer.chat_template:
        raise KyaraError("this model has no chat template; give the prompts as text, with worked examples")
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _batches(lengths: list[int], max_tokens: int, token_budget: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        widest = lengths[(batch or [position])[0]] + max_tokens
        if batch and (len(batch) + 1) * widest > token_budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
