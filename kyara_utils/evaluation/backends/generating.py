"""Greedy answers from a transformers model, batched by length so that padding costs little.

Short and long prompts in one batch make every short one pay for the long one; sorting fixes that, and a batch ends
when its last answer ends.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row

TOKEN_BUDGET = 4096  # prompt and answer tokens a batch
TAIL = 24  # tokens looked at for a stop text after each step; no stop text of ours is longer


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
    found: list[Row] = [{} for _ in prompts]
    for batch in _batches([len(ids) for ids in encoded], max_tokens, token_budget):
        rows = _answer(model, tokenizer, [encoded[i] for i in batch], max_tokens, tuple(stop))
        for position, row in zip(batch, rows, strict=True):
            found[position] = row
            if done:
                done(position, row)
    return found


def render(tokenizer: Any, messages: list[Row]) -> str:
    """Return a conversation as text, ready for the assistant's turn, by the model's own chat template."""
    if not tokenizer.chat_template:
        raise KyaraError("this model has no chat template; give the prompts as text, with worked examples")
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a prompt; a template that already wrote the begin-of-text token gets no second one."""
    bos = tokenizer.bos_token
    ids = tokenizer.encode(text, add_special_tokens=not (bos and text.startswith(bos)))
    if not ids:
        raise KyaraError("an empty prompt cannot be answered; remove the item")
    return ids


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


def _answer(model: Any, tokenizer: Any, rows: list[list[int]], max_tokens: int, stop: tuple[str, ...]) -> list[Row]:
    """Answer one batch; padding is on the left and masked, so every answer continues its own prompt."""
    import torch

    width, ends = max(map(len, rows)), _end_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)

    def stopped(sequences: Any, scores: Any, **_: Any) -> Any:
        tails = tokenizer.batch_decode(sequences[:, max(width, sequences.shape[1] - TAIL) :])
        hits = [any(text in tail for text in stop) for tail in tails]
        return torch.tensor(hits, device=sequences.device, dtype=torch.bool)

    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False, num_beams=1,
            pad_token_id=pad, eos_token_id=sorted(ends) or None, stopping_criteria=[stopped] if stop else None,
            temperature=None, top_p=None, top_k=None,
        )  # fmt: skip
    return [_read(tokenizer, sequence[width:].tolist(), ends, stop) for sequence in out]


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    found = model.generation_config.eos_token_id
    ids = found if isinstance(found, list) else [found]
    return {token for token in [*ids, tokenizer.eos_token_id] if token is not None}


def _read(tokenizer: Any, ids: list[int], ends: set[int], stop: tuple[str, ...]) -> Row:
    """Cut an answer at its first end token, then at its first stop text."""
    length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    text = tokenizer.decode(ids[:length], skip_special_tokens=True)
    cuts = [text.index(mark) for mark in stop if mark in text]
    ended = bool(cuts) or length < len(ids)
    return {"text": text[: min(cuts)] if cuts else text, "finish_reason": "stop" if ended else "length"}
