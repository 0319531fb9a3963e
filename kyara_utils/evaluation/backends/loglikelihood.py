"""Log-likelihood of the choices of an exam question on a transformers model, doing only the work that decides them.

A harness scores every position of every choice against the whole vocabulary; with 262k tokens that head costs more
than the model. Here choices that are one token share one forward pass and only the last position reaches the head;
longer choices share the question's key–value cache. Tokenisation and truncation are lm-evaluation-harness's
(`lm_eval/api/model.py`, `_encode_pair`; `lm_eval/models/huggingface.py`, `_loglikelihood_tokens`), so are the numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import local
from typing import Any

from kyara_utils.runs.errors import KyaraError

TOKEN_BUDGET, ON_GPU = 256, 16_384  # padded tokens a batch; on a CPU small batches fit its cache and share out evenly
_HEAD = local()
Done = Callable[[int, list[float]], None]


@dataclass(frozen=True)
class Encoded:
    """One question as token ids: the shared context and, per choice, its continuation (never empty)."""

    context: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]


def choice_logprobs(
    model: Any,
    tokenizer: Any,
    contexts: Sequence[str],
    choices: Sequence[Sequence[str]],
    token_budget: int = 0,
    done: Done | None = None,
) -> list[list[float]]:
    """Return log P(choice | context) in nats for every choice of every context, in the given order.

    `choices[i]` are the continuations of `contexts[i]`; one of several tokens gets the sum over them. `token_budget` 0
    takes what suits the device. `done(i, values)` is called as soon as item i is known (longest first), so that a
    caller can keep it. Raises `KyaraError` for an empty question or choice.
    """
    if len(contexts) != len(choices):
        raise KyaraError(f"{len(contexts)} questions but {len(choices)} lists of choices; give one list per question")
    encoded = [
        encode(tokenizer, context, list(texts), max_length(model))
        for context, texts in zip(contexts, choices, strict=True)
    ]
    found: list[list[float]] = [[] for _ in encoded]
    token_budget = token_budget or (TOKEN_BUDGET if model.device.type == "cpu" else ON_GPU)
    with _narrow_head(model), closing(_scored(model, encoded, list(batches(encoded, token_budget)))) as scored:
        for batch, rows in scored:
            for position, values in zip(batch, rows, strict=True):
                found[position] = values
                if done:
                    done(position, values)
    return found


def _scored(model: Any, encoded: list[Encoded], work: list[list[int]]) -> Iterator[tuple[list[int], list[list[float]]]]:
    """Yield every batch with its values; on a CPU one batch a core, each on one thread.

    Threads inside an operation wait for each other thousands of times a batch, which costs several times the work
    as soon as another process wants a core.
    """
    import torch

    def score(batch: list[int]) -> list[list[float]]:
        return _batch_logprobs(model, [encoded[i] for i in batch])

    cores = torch.get_num_threads()
    if model.device.type != "cpu" or cores < 2 or len(work) < 2:
        yield from ((batch, score(batch)) for batch in work)
        return
    pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from zip(work, pool.map(score, work), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # threads started later would inherit the pool's number


def encode(tokenizer: Any, context: str, choices: list[str], limit: int) -> Encoded:
    """Split context + choice into token ids as the harness does: white space at the end of the context goes to the
    choice. A context that is too long for `limit` tokens loses its beginning, once for all its choices: the harness
    cuts more off for a longer choice, so that choices are compared after different texts."""
    kept = context.rstrip()
    if not kept:
        raise KyaraError("a question without text cannot be scored; remove the item")
    space, head = context[len(kept) :], list(tokenizer.encode(kept))
    tails = [tuple(tokenizer.encode(kept + space + choice)[len(head) :]) for choice in choices]
    if not tails or not all(tails):
        raise KyaraError(f"a choice of {kept[-20:]!r} adds no token to the question; give every choice a text")
    room = limit + 1 - max(map(len, tails))
    if room < 1:
        raise KyaraError(f"a choice of {kept[-20:]!r} is longer than the model's {limit} tokens; shorten it")
    return Encoded(tuple(head[-room:]), tuple(tails))


def max_length(model: Any) -> int:
    """Tokens the model can attend to."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", 2048)


def batches(encoded: Sequence[Encoded], token_budget: int) -> Iterator[list[int]]:
    """Yield positions of questions that run together, longest first, within the token budget (one at least).

    Questions whose choices are single tokens are padded to the longest; where a cache is shared, a batch holds
    questions of one length only, because padding inside a cache would be attended to.
    """
    single = [all(len(choice) == 1 for choice in item.choices) for item in encoded]
    order = sorted(range(len(encoded)), key=lambda i: (single[i], len(encoded[i].context)), reverse=True)
    batch: list[int] = []
    for position in order:
        first, length = (batch or [position])[0], len(encoded[position].context)
        fits = (len(batch) + 1) * len(encoded[first].context) <= token_budget
        alike = single[first] == single[position] and (single[first] or len(encoded[first].context) == length)
        if batch and not (fits and alike):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def _batch_logprobs(model: Any, items: Sequence[Encoded]) -> list[list[float]]:
    """Score one batch of `batches`; per item the summed log-probability of each choice."""
    import torch

    with torch.inference_mode():
        longer = any(len(choice) > 1 for item in items for choice in item.choices)
        table, cache = _next_token(model, [item.context for item in items], keep=longer)
        found = [[float(row[choice[0]]) for choice in item.choices] for row, item in zip(table, items, strict=True)]
        if longer:
            _add_rest(model, items, cache, found)
    return found


def _next_token(model: Any, rows: list[tuple[int, ...]], keep: bool) -> tuple[Any, Any]:
    """Log-probabilities after the last token of each row, shape (rows, vocabulary), and the cache if `keep`.

    Padding is on the right: with a causal mask no real token sees it, so no mask is needed and logits stay equal.
    """
    import torch

    last = torch.tensor([len(row) - 1 for row in rows], device=model.device)

    def ends(hidden: Any) -> Any:
        where = last.to(hidden.device)
        return hidden[torch.arange(len(rows), device=hidden.device), where].unsqueeze(1)

    _HEAD.sees = ends
    try:
        out = model(input_ids=_padded(model, rows), use_cache=keep)
    finally:
        _HEAD.sees = None
    return out.logits[:, 0].float().log_softmax(-1), out.past_key_values if keep else None


def _add_rest(model: Any, items: Sequence[Encoded], cache: Any, found: list[list[float]]) -> None:
    """Add the second and later tokens of every choice to `found`, continuing from the questions' cache."""
    import torch

    where = [(i, j) for i, item in enumerate(items) for j, choice in enumerate(item.choices) if len(choice) > 1]
    cache.batch_select_indices(torch.tensor([i for i, _ in where], device=model.device))
    rests = [items[i].choices[j] for i, j in where]
    out = model(input_ids=_padded(model, [rest[:-1] for rest in rests]), past_key_values=cache, use_cache=True)
    for (i, j), rest, logits in zip(where, rests, out.logits, strict=True):
        wanted = torch.tensor(rest[1:], device=logits.device).unsqueeze(1)
        found[i][j] += float(logits[: len(rest) - 1].float().log_softmax(-1).gather(1, wanted).sum())


def _padded(model: Any, rows: Sequence[tuple[int, ...]]) -> Any:
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=model.device)


@contextmanager
def _narrow_head(model: Any) -> Iterator[None]:
    """Let the output head see only what `_HEAD.sees`, set by the same thread, makes of the hidden states.

    A hook rather than a head of our own, so that the model's soft-cap and scaling still apply.
    """

    def narrow(_: Any, inputs: tuple) -> tuple | None:
        select = getattr(_HEAD, "sees", None)
        return (select(inputs[0]), *inputs[1:]) if select else None

    hook = model.get_output_embeddings().register_forward_pre_hook(narrow)
    try:
        yield
    finally:
        hook.remove()
