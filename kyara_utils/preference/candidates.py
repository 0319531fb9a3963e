"""Answers of several models to the same prompts: the competitors of RLAIF and the opponent of SPIN."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kyara_utils.llm import Client, Model, Request, add_usage, connect, load_prompt, trained
from kyara_utils.models.serving import servable
from kyara_utils.runs.tables import Row

SEED_STEP = 50  # between the samples of one prompt, as in generate.py of uclaml/SPPO


def students(folders: dict[str, Path]) -> dict[str, Model]:
    """Return what answers for the models that step 05 left, by their names there (`sft_base`, `sft`)."""
    return {name: trained(name, servable(folder)) for name, folder in folders.items()}


def answer_all(
    models: Iterable[str | Model], prompts: list[str], store: Path, vocabulary: Path, budget: float = 0.0,
    engine: str = "local", **limits: Any,
) -> tuple[list[Row], Row]:  # fmt: skip
    """Ask several models all prompts, one model after the other; return (rows of `answer_prompts`, usage).

    budget: USD for the calls of one model, 0 for no limit; engine: who asks, as in `llm.connect`; limits: those
    of `answer_prompts`.
    """
    rows: list[Row] = []
    usage: Row = {}
    for model in models:
        with connect(model, store, vocabulary, budget, engine) as client:
            rows += answer_prompts(client, prompts, **limits)
        usage = add_usage(usage, client.usage)
    return rows, usage


def answer_prompts(
    client: Client, prompts: list[str], max_tokens: int = 160, temperature: float = 0.5, seed: int = 0
) -> list[Row]:
    """Ask one model all prompts; rows {model, prompt, text, finish_reason, call_id, error}.

    Chat models get the bare prompt; a base model gets it behind worked examples (`preference/prompts/reply.md`).
    0.5 is Kyara's published default chat temperature. Holds all prompts and answers, some 2 kB each:
    good for 1,000,000 prompts.
    """
    return _asked(client, [(prompt, seed) for prompt in prompts], max_tokens, temperature)


def _asked(client: Client, pairs: list[tuple[str, int]], max_tokens: int, temperature: float) -> list[Row]:
    """Rows of `answer_prompts`, of prompts with their seeds."""
    few_shot, completion = load_prompt("preference/reply"), client.model.dialect == "completion"
    stop = few_shot.stop if completion else ()
    requests = [
        Request(
            few_shot.messages(prompt=prompt) if completion else [{"role": "user", "content": prompt}],
            max_tokens, temperature, stop, repeat_penalty=1.1, seed=seed,
        )
        for prompt, seed in pairs
    ]  # fmt: skip
    answers = client.ask(requests, label=f"answers of {client.model.name}")
    return [
        {
            "model": client.model.name, "prompt": prompt, "text": response.text.strip(), "call_id": response.call_id,
            "finish_reason": response.finish_reason, "error": response.error,
        }
        for (prompt, _), response in zip(pairs, answers, strict=True)
    ]  # fmt: skip


def several_answers(
    client: Client, prompts: list[str], samples: int, max_tokens: int = 160, temperature: float = 0.5, seed: int = 0
) -> list[list[Row]]:
    """Ask one model all prompts `samples` times; return the rows of `answer_prompts` of each time.

    As many prompts as are under way at once are asked, then the same again with the next seed: a server that keeps a
    prompt's beginning reads each prompt once, not `samples` times.
    """
    seeds = [seed + SEED_STEP * number for number in range(samples)]
    starts = range(0, len(prompts), client.model.parallel)
    blocks = [prompts[start : start + client.model.parallel] for start in starts]
    pairs = [(prompt, one) for block in blocks for one in seeds for prompt in block]
    rows = dict(zip(pairs, _asked(client, pairs, max_tokens, temperature), strict=True))
    return [[rows[prompt, one] for prompt in prompts] for one in seeds]
