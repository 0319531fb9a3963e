"""A pair of answers, judged in both orders; only a verdict that survives the swap makes a preference.

The prompt is the model card's, word for word. `text` mode is the card's protocol: the judge reasons, then writes
[[A]], [[B]] or [[C]]; the last tag counts, since earlier ones may be quoted. `logprob` mode is for judges too small to
reason: the tag's log-probability is read right after the prompt. Judging both orders and adding the two margins cancels
a constant liking for one position, which in small models is far larger than the signal.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any

from kyara_utils.llm import Client, Request, Response, load_prompt
from kyara_utils.llm.ask import TOP, label_logprobs

WIDE = str.maketrans("［］【】〔〕ＡＢＣ", "[][][]ABC")
VERDICT = re.compile(r"(?:\\?\[\s*){2}[\"'*`]*([ABC])[\"'*`]*(?:\s*\\?\]){2}")  # also [[ A ]], \[\[A\]\]
PARTS = re.compile(r"\n|(?<=[。！？!?])|(?<=\.)\s")
ITEM = re.compile(rf"[^\w\[]*{VERDICT.pattern}\W*\w")  # a choice and what it means
CUE = {"role": "assistant", "content": "My final verdict is: [["}


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; `first` and `second` are only names of positions in the forward order.

    models: who wrote them, where that is known: a judge is not asked about its own answers.
    """

    id: str
    prompt: str
    first: str
    second: str
    models: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Verdict:
    """Both orders of one pair, seen from the forward order: A is `first`, B is `second`.

    outcome: `first` or `second` when both orders agree, `tie` (a C, or unreadable in one order), `inconsistent`
    (the judge followed the position), `unscored` (no verdict in either order), or why nobody was asked (`judges`).
    Margins: log P(A) − log P(B), log units, with the judge's mean liking for position A over the run taken out, which
    is `liking`; None in text mode.
    """

    pair_id: str
    forward: str
    reverse: str
    outcome: str
    margin_forward: float | None
    margin_reverse: float | None
    call_ids: tuple[str, ...]
    liking: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain dict for JSON and CSV."""
        return asdict(self)


def judge_pairs(
    client: Client, pairs: list[Pair], mode: str = "text", tie_margin: float = 0.0, repeat: int = 0
) -> list[Verdict]:
    """Judge every pair in both orders; `mode` is `text` or `logprob`. 2 × len(pairs) calls.

    repeat: number of this asking among several of the same pairs; each is a call of its own.
    """
    prompt = load_prompt("preference/judge")
    orders = [prompt.messages(prompt=p.prompt, answer=p.first, prediction=p.second) for p in pairs]
    orders += [prompt.messages(prompt=p.prompt, answer=p.second, prediction=p.first) for p in pairs]
    if mode == "text":
        requests = [Request(messages, max_tokens=1024, sample=repeat) for messages in orders]
        responses = client.ask(requests, label="judge", check=verdict_problem)
        tags = [read_verdict(response.text) for response in responses]
        margins, liking = [None] * len(tags), None
    else:
        requests = [Request([*messages, CUE], max_tokens=1, top_logprobs=TOP, sample=repeat) for messages in orders]
        responses = client.ask(requests, label="judge")
        margins, liking = centred([margin(response) for response in responses])
        tags = [tag_of(value, tie_margin) for value in margins]
    half = len(pairs)
    return [
        _verdict(pair, *(both[i::half] for both in (tags, margins, responses)), liking) for i, pair in enumerate(pairs)
    ]


def verdict_problem(text: str) -> str:
    """What is wrong with a judge's answer, for a second try; "" when it holds a verdict."""
    return "" if read_verdict(text) else "no verdict [[A]], [[B]] or [[C]]"


def read_verdict(text: str) -> str:
    """The last [[A]], [[B]] or [[C]] of a judgement, or "" when there is none.

    A sentence with several of them, and lines that each explain another one, list the choices and choose none.
    """
    parts = [part for part in PARTS.split(text.translate(WIDE)) if VERDICT.search(part)]
    tags = [set(VERDICT.findall(part)) for part in parts]
    leads = [bool(ITEM.match(part)) for part in parts]
    listed = {at for at in range(len(parts) - 1) if leads[at] and leads[at + 1] and tags[at] != tags[at + 1]}
    listed |= {at + 1 for at in listed}
    chosen = [tag for at, found in enumerate(tags) if len(found) == 1 and at not in listed for tag in found]
    return chosen[-1] if chosen else ""


def margin(response: Response) -> float | None:
    """log P(A) − log P(B) as the first token after `[[`; None unless both are among the likely tokens."""
    found = label_logprobs(response, ("A", "B"))
    return found["A"] - found["B"] if len(found) == 2 else None


def centred(margins: list[float | None]) -> tuple[list[float | None], float]:
    """Take the mean liking for position A out, and return it too: over both orders it measures position alone."""
    known = [value for value in margins if value is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [None if value is None else value - mean for value in margins], mean


def tag_of(value: float | None, tie_margin: float) -> str:
    """A, B or C (within `tie_margin` of indifference), "" without a margin."""
    if value is None:
        return ""
    if abs(value) <= tie_margin:
        return "C"
    return "A" if value > 0 else "B"


def _verdict(
    pair: Pair, tags: list[str], margins: list[float | None], responses: list[Response], liking: float | None
) -> Verdict:
    """Each list holds the forward and the reverse order."""
    forward, reverse = tags[0], {"A": "B", "B": "A"}.get(tags[1], tags[1])
    ahead, behind = margins
    return Verdict(
        pair.id, forward, reverse, outcome_of(forward, reverse),
        None if ahead is None else round(ahead, 4), None if behind is None else round(-behind, 4),
        tuple(response.call_id for response in responses), None if liking is None else round(liking, 4),
    )  # fmt: skip


def outcome_of(forward: str, reverse: str) -> str:
    """Outcome of two verdicts given in the forward order's terms."""
    if not forward and not reverse:
        return "unscored"
    if forward == reverse and forward in ("A", "B"):
        return "first" if forward == "A" else "second"
    return "inconsistent" if {forward, reverse} == {"A", "B"} else "tie"
