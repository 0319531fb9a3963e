"""Reward models and rankers as judges of pairs: their margins are log odds (Bradley–Terry), as SPPO's ranker's are.

Their only tie is a margin of exactly 0, since their scales differ: ArmoRM's scores lie within some hundredths.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kyara_utils.curation.reward_models import rewards
from kyara_utils.knowledge.vector_store import VectorStore
from kyara_utils.models.bases import find_base
from kyara_utils.models.pair_ranker import PairRanker, is_pair_ranker
from kyara_utils.preference.judge import Pair, Verdict, outcome_of, tag_of


@dataclass
class RewardJudge:
    """A model that sees one answer at a time: it knows no order, so both orders have one margin.

    Rewards are kept in the file `store`; an answer that is too long for the model has none, and its pairs no verdict.
    """

    name: str
    store: Path
    mode: str = "reward"
    usage: dict[str, Any] = field(default_factory=dict)

    def verdicts(self, pairs: list[Pair], repeat: int = 0) -> list[Verdict]:
        """One reward for each different answer to a prompt."""
        answers = list(dict.fromkeys((pair.prompt, text) for pair in pairs for text in (pair.first, pair.second)))
        turns = [[{"role": "user", "content": p}, {"role": "assistant", "content": text}] for p, text in answers]
        with VectorStore(self.store) as store:
            scores = rewards(self.name, [{"messages": messages} for messages in turns], store) if turns else []
        found = dict(zip(answers, scores, strict=True))
        margins = [difference(found[pair.prompt, pair.first], found[pair.prompt, pair.second]) for pair in pairs]
        return by_margins(pairs, margins, margins)


@dataclass
class RankerJudge:
    """A model that reads both answers at once, in both orders."""

    name: str
    model: PairRanker
    mode: str = "reward"
    usage: dict[str, Any] = field(default_factory=dict)

    def verdicts(self, pairs: list[Pair], repeat: int = 0) -> list[Verdict]:
        """2 × len(pairs) passes."""
        ahead = self.model.margins([(pair.prompt, pair.first, pair.second) for pair in pairs])
        behind = self.model.margins([(pair.prompt, pair.second, pair.first) for pair in pairs])
        return by_margins(pairs, ahead, [-value for value in behind])


def open_reward_judge(name: str, store: Path) -> RewardJudge | RankerJudge:
    """Return the judge that a folder or `owner/name` holds; `KyaraError` where it is no model."""
    folder = find_base(name)
    return RankerJudge(name, PairRanker(folder)) if is_pair_ranker(folder) else RewardJudge(name, store)


def difference(one: float | None, two: float | None) -> float | None:
    """Reward of the first less that of the second; None where one is unknown."""
    return None if one is None or two is None else one - two


def by_margins(pairs: Sequence[Pair], ahead: Sequence[float | None], behind: Sequence[float | None]) -> list[Verdict]:
    """Verdicts from the log odds for the first answer in both orders; a NaN is a verdict that nobody gave."""
    found = []
    for pair, *margins in zip(pairs, ahead, behind, strict=True):
        known = [value if value is not None and value == value else None for value in margins]
        tags = [tag_of(value, 0.0) for value in known]
        found.append(Verdict(pair.id, *tags, outcome_of(*tags), *known, ()))
    return found
