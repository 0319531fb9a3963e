"""What a step's calls will cost at most, before it runs: from the table `calls` of `params/pipeline.yaml`.

A line names the parameter that holds the model (or a list of models), the parameters whose product is the number of
calls, and the tokens of one call. `STEP.name` is a parameter of another step or the row count of an output; before that
step has run the line's calls are then unknown (None).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from kyara_utils.llm.endpoints import Model, load_models

RowsOf = Callable[[str, str], int | None]


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
        calls = 0 if 0 in counts else None if None in counts else prod(counts)
        prompt, completion = (values.get(size, size) for size in line["tokens"])
        for model in models if isinstance(models, list) else [models]:
            found.append(Planned(model, line["stage"], calls, prompt, completion))
    return found


def _factor(factor: str | int, values: dict[str, Any], rows_of: RowsOf) -> int | None:
    if isinstance(factor, str) and "." in factor and factor not in values:
        return rows_of(*factor.split("."))
    return int(values[factor]) if isinstance(factor, str) else factor


def describe(table: list[dict[str, Any]], values: dict[str, Any], rows_of: RowsOf) -> list[str]:
    """Word the cost of a step's table of calls; what `runs.pipeline.run` takes as `estimate`."""
    return estimate(planned_calls(table, values, rows_of)) if table else []


def estimate(planned: list[Planned]) -> list[str]:
    """Lines for people, one per model: calls, tokens, cost at the registry's prices."""
    registry = load_models()
    lines = []
    for name in dict.fromkeys(item.model for item in planned):
        items = [item for item in planned if item.model == name]
        unknown = ", ".join(dict.fromkeys(item.stage for item in items if item.calls is None))
        calls = sum(item.calls or 0 for item in items)
        prompt = sum((item.calls or 0) * item.prompt_tokens for item in items)
        completion = sum((item.calls or 0) * item.completion_tokens for item in items)
        model = registry.get(name, Model(name))
        cost = f"${model.cost(prompt, completion):,.2f}" if model.price_out else "free" if _ours(model) else "no price"
        known = f"at most {calls:,} calls, {prompt:,} + {completion:,} tokens, {cost}" if calls else ""
        later = f"not known before the earlier steps have run: {unknown}" if unknown else ""
        if known or later:
            lines.append(f"{name}: " + "; ".join(filter(None, (known, later))))
    return lines


def _ours(model: Model) -> bool:
    """Whether nobody sends a bill: embedded, trained here, or served on this machine."""
    return not model.urls or all("127.0.0.1" in url or "localhost" in url for url in model.urls)
