"""Who may judge a pair: language models and reward models behind one interface, alone or as a panel.

A panel is one judge whose verdict in each order is its members' majority. A member is not asked about an answer of its
own, unless that is allowed: judges prefer their own (Panickssery et al. 2024, arXiv 2404.13076).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Protocol

from kyara_utils.llm import Client, add_usage, connect
from kyara_utils.llm.endpoints import Model, load_models
from kyara_utils.preference.judge import Pair, Verdict, judge_pairs, outcome_of
from kyara_utils.runs.errors import KyaraError

MODES = ("text", "logprob")


class PairJudge(Protocol):
    """Whatever compares two answers in both orders."""

    name: str
    usage: dict[str, Any]

    def verdicts(self, pairs: list[Pair], repeat: int = 0) -> list[Verdict]:
        """One verdict a pair, in their order; `repeat` numbers the askings of the same pairs."""


@dataclass
class LlmJudge:
    """A language model asked with the card's prompt; see `judge_pairs`."""

    client: Client
    mode: str = "text"
    tie_margin: float = 0.0

    @property
    def name(self) -> str:
        """The model's name in params/models.yaml."""
        return self.client.model.name

    @property
    def usage(self) -> dict[str, Any]:
        """What its calls have used."""
        return self.client.usage

    def verdicts(self, pairs: list[Pair], repeat: int = 0) -> list[Verdict]:
        """2 × len(pairs) calls."""
        return judge_pairs(self.client, pairs, self.mode, self.tie_margin, repeat)


@dataclass
class Panel:
    """Judges that vote; without members (`refused`: none passed its test) every pair is `judge_below_bar`."""

    members: Sequence[PairJudge]
    own_answers: bool = False
    models: dict[str, Model] = field(default_factory=load_models)

    @property
    def name(self) -> str:
        """The members' names."""
        return ", ".join(member.name for member in self.members)

    @property
    def usage(self) -> dict[str, Any]:
        """Summed over the members."""
        return add_usage(*(member.usage for member in self.members))

    def only(self, names: Sequence[str]) -> "Panel":
        """The same panel with the members of these names alone."""
        return Panel([member for member in self.members if member.name in names], self.own_answers, self.models)

    def may_judge(self, writers: tuple[str, str]) -> bool:
        """Whether any member may be asked about answers of these models; a panel without members excludes no pair."""
        return not self.members or any(self._may(member, writers) for member in self.members)

    def verdicts(self, pairs: list[Pair], repeat: int = 0) -> list[Verdict]:
        """Ask every member about the pairs that it may judge; `own_answer` where that is nobody."""
        votes: dict[int, list[Verdict]] = {}
        for member in self.members:
            places = [place for place, pair in enumerate(pairs) if self._may(member, pair.models)]
            for place, verdict in zip(places, member.verdicts([pairs[i] for i in places], repeat), strict=True):
                votes.setdefault(place, []).append(verdict)
        nobody = "own_answer" if self.members else "judge_below_bar"
        return [_vote(pair, votes.get(place, []), nobody) for place, pair in enumerate(pairs)]

    def _may(self, member: PairJudge, writers: tuple[str, str]) -> bool:
        return self.own_answers or not any(writer and self._origin(writer) == self._origin(member.name)
                                           for writer in writers)  # fmt: skip

    def _origin(self, name: str) -> str:
        """Two names of the registry may stand for one model."""
        model = self.models.get(name)
        return (model.package or model.model or name) if model else name


def _vote(pair: Pair, votes: list[Verdict], nobody: str) -> Verdict:
    if len(votes) < 2:
        return votes[0] if votes else Verdict(pair.id, "", "", nobody, None, None, ())
    forward, reverse = (majority([getattr(vote, order) for vote in votes]) for order in ("forward", "reverse"))
    margins = []
    for order in ("margin_forward", "margin_reverse"):
        known = [value for vote in votes if (value := getattr(vote, order)) is not None]
        margins.append(mean(known) if known else None)
    calls = tuple(call for vote in votes for call in vote.call_ids)
    return Verdict(pair.id, forward, reverse, outcome_of(forward, reverse), *margins, calls)


def majority(tags: list[str]) -> str:
    """The tag of more than half of those who gave one, else C; "" when nobody did."""
    given = Counter(tag for tag in tags if tag)
    if not given:
        return ""
    tag, votes = given.most_common(1)[0]
    return tag if 2 * votes > given.total() else "C"


@contextmanager
def open_panel(
    names: Sequence[str], store: Path, vocabulary: Path | None = None, budget: float = 0.0, mode: str = "text",
    tie_margin: float = 0.0, own_answers: bool = False, engine: str = "local",
) -> Iterator[Panel]:  # fmt: skip
    """Connect the judges of these names: of params/models.yaml, or a reward model's folder or `owner/name`.

    store: the ledger of calls, beside which rewards are kept; budget: USD for the calls of one judge, 0 for no limit.
    engine: who asks, as in `llm.connect`.
    """
    if mode not in MODES:
        raise KyaraError(f"judge_mode {mode!r} is none of {', '.join(MODES)}; set one")
    with ExitStack() as stack:
        members: list[PairJudge] = []
        for name in names:
            if "/" in name:
                from kyara_utils.preference.reward_judges import open_reward_judge

                members.append(open_reward_judge(name, Path(store).with_name("rewards.sqlite")))
            else:
                client = stack.enter_context(connect(name, store, vocabulary, budget, engine))
                members.append(LlmJudge(client, mode, tie_margin))
        yield Panel(members, own_answers)
