"""Answers of a transformers model: many requests in one batch, each with its own temperature, seed, limits and stops.

Sampling adds Gumbel noise to the scores and takes the largest (https://arxiv.org/abs/1611.01144, eq. 1), which is a
draw from the softmax. The noise comes from the request's own seed, so an answer does not depend on
who shared its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kyara_utils.models.chat_templates import TemplateError, turn_end

PENALISED = 64  # last tokens whose repetition is penalised, llama.cpp's `repeat_last_n`
TAIL = 24  # tokens looked at for a stop text after each step


@dataclass(frozen=True)
class Ask:
    """One prompt as token ids. `top_logprobs` > 0 returns so many alternatives of every token (natural logarithms)."""

    prompt: list[int]
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    repeat_penalty: float = 1.0
    top_logprobs: int = 0


@dataclass
class Answer:
    """Text, why it ended (`stop`, `length`), its number of tokens, and [(token, log-probability), …] of each."""

    text: str = ""
    finish_reason: str = "length"
    tokens: int = 0
    logprobs: list[list[tuple[str, float]]] = field(default_factory=list)


def prompt_ids(tokenizer, text: str) -> list[int]:
    """Return the ids of a bare text, with one begin-of-text token where the tokenizer sets one."""
    bos = tokenizer.bos_token
    return tokenizer.encode(text, add_special_tokens=not (bos and text.startswith(bos)))


def end_ids(model, tokenizer) -> list[int]:
    """Return the tokens at which an answer ends: those that the model names, end of text, end of turn."""
    named = model.generation_config.eos_token_id
    found = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id, _turn_end(tokenizer)]
    return sorted({number for number in found if number is not None})


def _turn_end(tokenizer) -> int | None:
    """None for a tokenizer without turns, or whose template shows no end of them."""
    try:
        return turn_end(tokenizer) if tokenizer.chat_template else None
    except TemplateError:
        return None


def generate(model, tokenizer, asks: Sequence[Ask], special: bool = False) -> list[Answer]:
    """Answer all `asks` in one batch, in order; `special` leaves the template's tokens visible in the text."""
    import torch

    width, ends = max(len(ask.prompt) for ask in asks), end_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    ids = torch.tensor([[pad] * (width - len(ask.prompt)) + ask.prompt for ask in asks], device=model.device)
    mask = torch.tensor([[0] * (width - len(ask.prompt)) + [1] * len(ask.prompt) for ask in asks], device=model.device)
    chooser = _Chooser(asks, tokenizer)
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max(ask.max_tokens for ask in asks),
            do_sample=False, num_beams=1, repetition_penalty=1.0, temperature=None, top_p=None, top_k=None,
            pad_token_id=pad, eos_token_id=ends or None, logits_processor=[chooser],
            stopping_criteria=[_stopper(asks, tokenizer, width)],
        )  # fmt: skip
    rows = zip(asks, out[:, width:].tolist(), chooser.logprobs, strict=True)
    return [_read(tokenizer, ask, ids, ends, found, special) for ask, ids, found in rows]


class _Chooser:
    """A logits processor: keeps log-probabilities, then makes the largest score the request's own choice."""

    def __init__(self, asks: Sequence[Ask], tokenizer):
        import torch

        self.asks, self.tokenizer = asks, tokenizer
        self.logprobs: list[list] = [[] for _ in asks]
        self.noise = [torch.Generator().manual_seed(ask.seed) for ask in asks]

    def __call__(self, input_ids, scores):
        scores = scores.float()
        for row, ask in enumerate(self.asks):
            if ask.top_logprobs:
                self.logprobs[row].append(self._top(scores[row], ask.top_logprobs))
            if ask.repeat_penalty != 1.0:
                seen = input_ids[row, -PENALISED:].unique()
                values, by = scores[row, seen], ask.repeat_penalty
                scores[row, seen] = (values * by).where(values < 0, values / by)
            if ask.temperature > 0:
                scores[row] = scores[row] / ask.temperature + self._gumbel(row, scores)
        return scores

    def _gumbel(self, row: int, scores):
        import torch

        waits = torch.empty(scores.shape[1]).exponential_(generator=self.noise[row])
        return -torch.log(waits).to(scores.device)

    def _top(self, scores, count: int) -> list[tuple[str, float]]:
        values, ids = scores.log_softmax(-1).topk(min(count, len(scores)))
        found: dict[str, float] = {}
        for value, number in zip(values.tolist(), ids.tolist(), strict=True):
            found.setdefault(self.tokenizer.decode([number]), value)  # of two tokens with one text, the likelier
        return list(found.items())


def _stopper(asks: Sequence[Ask], tokenizer, width: int):
    def stopped(sequences: Any, scores: Any, **_: Any):
        import torch

        made = sequences.shape[1] - width
        tails = tokenizer.batch_decode(sequences[:, width:][:, -TAIL:]) if any(ask.stop for ask in asks) else []
        hits = [made >= ask.max_tokens for ask in asks]
        for row, tail in enumerate(tails):
            hits[row] |= any(text in tail for text in asks[row].stop)
        return torch.tensor(hits, device=sequences.device)

    return stopped


def _read(tokenizer, ask: Ask, ids: list[int], ends: list[int], logprobs: list, special: bool) -> Answer:
    """Cut at the request's own limit, at the first end token, then at the first stop text."""
    ids = ids[: ask.max_tokens]
    length = next((at for at, number in enumerate(ids) if number in ends), len(ids))
    text = tokenizer.decode(ids[:length], skip_special_tokens=not special)
    cuts = [text.index(mark) for mark in ask.stop if mark in text]
    ended = bool(cuts) or length < len(ids)
    return Answer(
        text[: min(cuts)] if cuts else text, "stop" if ended else "length", length, logprobs[: max(length, 1)]
    )
