"""The two ways a stage uses a model: text from a prompt file, and a verdict read from label log-probabilities.

Verdicts never come from the text of a small model: it prefers one label whatever it is shown. The difference of the
labels' log-probabilities still carries a signal once a threshold is read off controls whose answer is known.
"""

import re
from math import exp
from typing import Any

from kyara_utils.llm.client import Client
from kyara_utils.llm.prompts import Prompt
from kyara_utils.llm.protocol import Request, Response

# llama.cpp returns this many alternatives cheaply; a label outside them is treated as just below the last.
TOP = 64
LEAST = 0.1  # probability that all labels together must have for their mean to mean anything


def complete(client: Client, prompt: Prompt, inputs: list[dict[str, Any]], **options: Any) -> list[Response]:
    """Render the prompt once per input and return the answers in order, white space stripped.

    options: `check` and `reasks` go to `Client.ask`, the rest to every `Request`; the prompt's schema is the default.
    """
    asking = {name: options.pop(name) for name in ("check", "reasks") if name in options}
    options.setdefault("schema", prompt.schema)
    stop = prompt.stop if client.model.dialect == "completion" else ()  # a chat model ends its turn by itself
    requests = [Request(prompt.messages(**item), stop=stop, **options) for item in inputs]
    responses = client.ask(requests, label=prompt.name, **asking)
    for response in responses:
        response.text = response.text.strip()
    return responses


def log_odds(client: Client, prompt: Prompt, inputs: list[dict[str, Any]], labels: tuple[str, ...]) -> list[Response]:
    """Ask for one token per input; `score(response, labels)` then gives log P(first label) − log P(second).

    With more labels, `expected(response, labels)` gives the mean of the numbers that they are.
    """
    requests = [Request(prompt.messages(**item), max_tokens=1, top_logprobs=TOP) for item in inputs]
    return client.ask(requests, label=stage_of(prompt, labels))


def stage_of(prompt: Prompt, labels: tuple[str, ...]) -> str:
    """How the ledger notes what asked for a verdict; `labels_of` reads it."""
    return f"{prompt.name} {'/'.join(labels)}"


def labels_of(stage: str) -> tuple[str, ...]:
    """The labels that a stage reads from log-probabilities; () for any other stage."""
    found = re.fullmatch(r"\S+@\d+ ([^/]+(?:/[^/]+)+)", stage)
    return tuple(found[1].split("/")) if found else ()


def label_logprobs(response: Response, labels: tuple[str, ...]) -> dict[str, float]:
    """Log-probability of each label as the answer's first token; labels that are not listed are left out."""
    found: dict[str, float] = {}
    for token, value in (response.logprobs[0] if response.logprobs else {}).items():
        if token.strip() in labels:
            found[token.strip()] = max(value, found.get(token.strip(), value))
    return found


def score(response: Response, labels: tuple[str, str]) -> float | None:
    """Log-odds of the first label over the second, or None when neither was among the likely tokens."""
    found = label_logprobs(response, labels)
    if not found:
        return None
    floor = min(response.logprobs[0].values())
    return found.get(labels[0], floor) - found.get(labels[1], floor)


def expected(response: Response, labels: tuple[str, ...]) -> float | None:
    """Mean of labels that are numbers, by their probabilities, or None where they hold less than a tenth of them.

    Without log-probabilities (some providers, a model that thinks aloud) the label that was written counts.
    """
    found = {label: exp(value) for label, value in label_logprobs(response, labels).items()}
    if not response.logprobs:
        return float(response.text.strip()) if response.text.strip() in labels else None
    total = sum(found.values())
    return sum(float(label) * value for label, value in found.items()) / total if total >= LEAST else None
