"""The losses once more, one row at a time and by their equations alone, to set beside what the trainer recorded.

Nothing here is used for training. A notebook computes one number with it and compares: a sign, a mask or a reference
that is not what the text says would show.
"""

from pathlib import Path

from kyara_utils.models import loading
from kyara_utils.runs.tables import Row
from kyara_utils.training.data import encoded
from kyara_utils.training.pair_rows import pair_ids


def token_logprobs(model, ids: list[int], positions: list[int] | None = None):
    """Return log p(xₜ | x before t) for t = 1 … n − 1, shape (n − 1,), in nats; `positions` when rows are packed."""
    import torch

    tokens = torch.tensor([ids], device=model.device)
    places = {} if positions is None else {"position_ids": torch.tensor([positions], device=model.device)}
    with torch.inference_mode():
        logits = model(tokens, use_cache=False, **places).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]


def answer_loss(model, tokenizer, row: Row) -> float:
    """Return −mean of log p over the tokens of the answers of one conversation, in nats."""
    ids, mask = encoded(tokenizer, row)
    found = token_logprobs(model, list(ids))
    return -sum(value for value, on in zip(found.tolist(), mask[1:], strict=True) if on) / sum(mask[1:])


def packed_answer_loss(model, tokenizer, rows: list[Row]) -> float:
    """Return `answer_loss` of the last of `rows` when all are packed into one sequence, whose positions start anew."""
    parts = [encoded(tokenizer, row) for row in rows]
    ids = [number for part, _ in parts for number in part]
    found = token_logprobs(model, ids, [at for part, _ in parts for at in range(len(part))]).tolist()
    mask = parts[-1][1]
    last = found[-(len(mask) - 1) :]
    return -sum(value for value, on in zip(last, mask[1:], strict=True) if on) / sum(mask[1:])


def pair_margin(model_dir: Path, reference_dir: Path, pair: Row, beta: float) -> float:
    """Return β[(log π(y⁺) − log π_ref(y⁺)) − (log π(y⁻) − log π_ref(y⁻))] of one pair, π in `model_dir`."""
    tokenizer = loading.load_tokenizer(model_dir)
    ids = pair if "prompt_ids" in pair else pair_ids(tokenizer, pair)
    gaps = []
    for folder in (model_dir, reference_dir):
        model = loading.load_model(folder).eval()
        chosen, rejected = (answer_logprob(model, ids["prompt_ids"], ids[f"{s}_ids"]) for s in ("chosen", "rejected"))
        gaps.append(chosen - rejected)
    return beta * (gaps[0] - gaps[1])


def answer_logprob(model, prompt: list[int], answer: list[int]) -> float:
    """Return log p(answer | prompt), the sum over its tokens, in nats."""
    return token_logprobs(model, [*prompt, *answer])[len(prompt) - 1 :].sum().item()
