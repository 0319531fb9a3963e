"""What a step's calls will cost at most, before it runs: from the table `calls` of `params/pipeline.yaml`.

A line names the parameter that holds the model (or a list of models), the parameters whose product is the number of
calls (a list counts as its length), the tokens of one call (by the model's style, if they depend on it), and parameters
whose value spares it (`unless`). `STEP.name` is a parameter of another step or the row count of an output; before that
step has run the line's calls are then unknown (None).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from kyara_utils.llm.endpoints import Model, find_model, is_local

RowsOf = Callable[[str, str], int | None]
TRAINED = {"base", "sft_base", "sft", "dpo"}  # models that the chain makes itself
# Tokens a second that are read and written, where a model names no `speed`: measured for the embedded 270M model on two
# cores (all requests together), assumed for one request of a hosted model.
HERE, HOSTED = (1000.0, 80.0), (2000.0, 40.0)


@dataclass(frozen=True)
class Planned:
    """Calls of one stage by one model: at most so many, each with so many prompt and completion tokens."""

    model: str
    stage: str
    calls: int | None
    prompt_tokens: int
    completion_tokens: int


def planned_calls(table: list[dict[str, Any]], values: dict[str, Any], rows_of: RowsOf) -> list[Planned]:
    """Fill a step's table in with its resolved parameters, and those of other steps as `STEP.name`."""
    found = []
    for line in table:
        models = values.get(line["model"], line["model"])
        counts = [_factor(factor, values, rows_of) for factor in line["per"]]
        spared = any(values.get(name) == value for name, value in line.get("unless", {}).items())
        calls = 0 if 0 in counts or spared else None if None in counts else prod(counts)
        for model in models if isinstance(models, list) else [models]:
            if "/" in model:  # a reward model's folder or owner/name: no LLM is asked
                continue
            found.append(Planned(model, line["stage"], calls, *_tokens(line["tokens"], model, values)))
    return found


def _tokens(sizes: list[Any] | dict[str, list[Any]], model: str, values: dict[str, Any]) -> tuple[int, int]:
    """Prompt and completion tokens of a call: numbers or parameters, by the model's style where they depend on it."""
    sizes = sizes[find_model(model).style] if isinstance(sizes, dict) else sizes
    prompt, completion = (values.get(size, size) for size in sizes)
    return prompt, completion


def _factor(factor: str | int, values: dict[str, Any], rows_of: RowsOf) -> int | None:
    if isinstance(factor, str) and "." in factor and factor not in values:
        return rows_of(*factor.split("."))
    value = values[factor] if isinstance(factor, str) else factor
    return len(value) if isinstance(value, list) else int(value)


class Plan:
    """What a run will ask of LLMs at most, step by step and in all; what `runs.pipeline.run` takes as `plan`."""

    def __init__(self) -> None:
        self._all: list[Planned] = []

    def step(self, table: list[dict[str, Any]], values: dict[str, Any], rows_of: RowsOf) -> list[str]:
        """Word what one step's calls cost and add it to the total. Raises `KyaraError` on an unknown model."""
        planned = planned_calls(table, values, rows_of)
        self._all += planned
        return estimate(planned)

    def total(self) -> list[str]:
        """Word the sum over all steps, and what is still missing for it."""
        sums = [_Sum.of(model_of(name), items) for name, items in _by_model(self._all).items()]
        calls, tokens = sum(item.calls for item in sums), sum(item.prompt + item.completion for item in sums)
        if not sums:
            return []
        unpriced = [item.model.name for item in sums if item.money == "no price" and item.calls]
        cost = f"${sum(item.model.cost(item.prompt, item.completion) for item in sums):,.2f}"
        if unpriced:
            cost += f" and what {', '.join(unpriced)} cost, which have no price in params/models.yaml"
        later = ", and what is not known yet" if any(item.calls is None for item in self._all) else ""
        hours = sum(item.hours for item in sums)
        lines = [f"in all at most {calls:,} calls, {tokens:,} tokens, {cost}, {_time(hours)} of calls{later}"]
        keys = {item.model.key_env for item in sums if item.model.key_env and not os.environ.get(item.model.key_env)}
        return lines + [f"missing: {name} is not set; export {name}=…" for name in sorted(keys)]


@dataclass(frozen=True)
class _Sum:
    """One model's calls; hours at its limits, else at an assumed speed."""

    model: Model
    calls: int
    prompt: int
    completion: int

    @classmethod
    def of(cls, model: Model, items: list[Planned]) -> "_Sum":
        calls = [item.calls or 0 for item in items]
        prompt = sum(n * item.prompt_tokens for n, item in zip(calls, items, strict=True))
        completion = sum(
            n * (item.completion_tokens + model.reasoning_tokens) for n, item in zip(calls, items, strict=True)
        )
        return cls(model, sum(calls), prompt, completion)

    @property
    def money(self) -> str:
        if self.model.price_out:
            return f"${self.model.cost(self.prompt, self.completion):,.2f}"
        return "free" if _ours(self.model) else "no price"

    @property
    def hours(self) -> float:
        """The slowest of requests a minute, tokens a minute and the speed at which a model reads and writes."""
        model = self.model
        read, write = model.speed or (HERE if model.embedded or not model.urls else HOSTED)
        at_once = max(1, model.parallel) * max(1, len(model.urls)) if model.urls else 1
        times = [(self.prompt / read + self.completion / write) / at_once / 3600]
        times += [self.calls / model.rpm / 60] if model.rpm else []
        times += [(self.prompt + self.completion) / model.tpm / 60] if model.tpm else []
        return max(times)


def model_of(name: str) -> Model:
    """Return the model of `params/models.yaml`, or a stand-in for one that the chain trains itself."""
    return Model(name) if name in TRAINED else find_model(name)


def _by_model(planned: list[Planned]) -> dict[str, list[Planned]]:
    return {name: [item for item in planned if item.model == name] for name in dict.fromkeys(p.model for p in planned)}


def estimate(planned: list[Planned]) -> list[str]:
    """Lines for people, one per model: calls, tokens, cost at the registry's prices."""
    lines = []
    for name, items in _by_model(planned).items():
        summed = _Sum.of(model_of(name), items)
        unknown = ", ".join(dict.fromkeys(item.stage for item in items if item.calls is None))
        tokens = f"{summed.prompt:,} + {summed.completion:,} tokens"
        known = f"at most {summed.calls:,} calls, {tokens}, {summed.money}" if summed.calls else ""
        later = f"not known before the earlier steps have run: {unknown}" if unknown else ""
        if known or later:
            lines.append(f"{name}: " + "; ".join(filter(None, (known, later))))
    return lines


def _ours(model: Model) -> bool:
    """Whether nobody sends a bill: embedded, trained here, or served on this machine."""
    return all(map(is_local, model.urls))


def _time(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} min"
