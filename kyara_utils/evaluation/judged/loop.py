"""The loop under every judged benchmark: ask, read the verdict, ask once more where it cannot be read.

Templates come from the benchmark's own files; questions and answers are filled in as data in a single pass, so a
brace in an answer never becomes a field.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kyara_utils.llm import Client, Request, Response
from kyara_utils.runs.errors import KyaraError

Message = dict[str, str]
FIELD = re.compile(r"\{([A-Za-z][A-Za-z0-9_]{0,40})\}")
DOUBLED = re.compile(r"\{\{|\}\}|\{([A-Za-z][A-Za-z0-9_]{0,40})\}")


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one item: `value` as the parser read it, None when unscored, and `error` says why."""

    value: Any
    text: str
    call_ids: tuple[str, ...]
    error: str = ""


def fill(template: str, fields: Mapping[str, str], doubled: bool = False) -> str:
    """Replace each {name} by its field in one pass; `doubled` reads {{ and }} as single braces, as str.format does.

    Raises KyaraError when the template names a field that is not given.
    """

    def one(match: re.Match) -> str:
        name = match[1]
        if name is None:
            return match[0][0]
        if name not in fields:
            raise KyaraError(f"the published prompt asks for {{{name}}}; pin the version that this protocol knows")
        return fields[name]

    return (DOUBLED if doubled else FIELD).sub(one, template)


def judge_answers(
    client: Client,
    requests: Sequence[Request],
    parse: Callable[[Response], Any],
    reask: Callable[[Request, Response], Request] | None = None,
    label: str = "judge",
) -> list[Verdict]:
    """Ask every request and parse the answers, in order; an unread verdict is asked once more, then stays unscored.

    `parse` returns None for what it cannot read. `reask` makes the second request; by default the same one is asked
    afresh. The client stores and retries the calls, so a second run costs nothing.
    """
    first = client.ask(list(requests), label=label)
    values = [_value(response, parse) for response in first]
    left = [position for position, value in enumerate(values) if value is None]
    reask_with = reask or (lambda request, response: replace(request, sample=request.sample + 1))
    asked = [reask_with(requests[i], first[i]) for i in left]
    second = dict(zip(left, client.ask(asked, label=f"{label}, once more") if asked else [], strict=True))
    return [_verdict(value, first[i], second.get(i), parse) for i, value in enumerate(values)]


def _value(response: Response, parse: Callable[[Response], Any]) -> Any:
    return None if response.error else parse(response)


def _verdict(value: Any, first: Response, second: Response | None, parse: Callable[[Response], Any]) -> Verdict:
    if second is None:
        return Verdict(value, first.text, (first.call_id,))
    value = _value(second, parse)
    last = first if second.error else second
    error = "" if value is not None else second.error or ("cut off" if second.truncated else "no verdict in the text")
    return Verdict(value, last.text, (first.call_id, second.call_id), error)
