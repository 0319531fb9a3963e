"""Which pairs repeat an earlier one, exactly or nearly, in a stream: by their prompts first, then by both answers.

Several pairs of one prompt are no repeats: RLAIF makes six of four answers, Step-DPO several of one problem. A pair
repeats another when the prompts are near duplicates and the chosen and rejected answers are, each by itself, as
`text.near_duplicates` decides it. As in `curation.duplicates`, texts that state different numbers never repeat.
"""

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np

from kyara_utils.curation.rows import is_math, key64, stated_numbers
from kyara_utils.runs.tables import Row
from kyara_utils.text.folding import OPERATORS, fold_all
from kyara_utils.text.near_duplicates import NearDuplicates

SIDES = ("chosen", "rejected")


class Alike:
    """Numbers for texts, equal for near duplicates of one group: that of the first of them. About 1 kB for each."""

    def __init__(self, threshold: float, seed: int) -> None:
        self.labels = array("q")
        self._core = NearDuplicates(threshold, seed=seed)

    def add(self, texts: Sequence[str], groups: Sequence[object]) -> list[int]:
        """Take the next texts and return their numbers."""
        keys, begin = np.array([key64(group) for group in groups], np.int64), len(self.labels)
        for witness in self._core.add(list(fold_all(texts, OPERATORS)), keys):
            self.labels.append(self.labels[witness[0]] if witness else len(self.labels))
        return self.labels[begin:].tolist()


class Prompts:
    """The first pass: which prompts are alike. A begun solution is no part of them."""

    def __init__(self, threshold: float, seed: int) -> None:
        self._alike = Alike(threshold, seed)

    @property
    def labels(self) -> Sequence[int]:
        return self._alike.labels

    def add(self, rows: Sequence[Row]) -> None:
        """Take the next rows."""
        texts = ["\n".join(asked(row)) for row in rows]
        self._alike.add(texts, [stated_numbers(text, is_math(row)) for text, row in zip(texts, rows, strict=True)])


class Repeats:
    """The second pass, over the same rows in the same order: only prompts that come twice are looked at again."""

    def __init__(self, labels: Sequence[int], threshold: float, seed: int) -> None:
        self._labels, self._often, self._at = labels, Counter(labels), 0
        self._answers, self._seen = Alike(threshold, seed), {}

    def add(self, rows: Sequence[Row]) -> list[tuple[str, str]]:
        """Return (rule, id of the earlier row) for each row, ("", "") where it repeats none.

        Rules: `near_duplicate`, and `opposite_pair` where an earlier row prefers the answer that this one rejects.
        """
        labels = self._labels[self._at : self._at + len(rows)]
        self._at += len(rows)
        found = [("", "")] * len(rows)
        often = [at for at, label in enumerate(labels) if self._often[label] > 1]
        numbers = iter(self._numbers([rows[at] for at in often], [labels[at] for at in often]))
        for at in often:
            found[at] = self._repeated(labels[at], next(numbers), next(numbers), rows[at]["id"])
        return found

    def _numbers(self, rows: Sequence[Row], labels: Sequence[int]) -> list[int]:
        """Numbers of chosen and rejected in turn; answers of different prompts, or after other steps, are unlike."""
        texts = [row[side][-1]["content"] for row in rows for side in SIDES]
        places = [(label, begun(row), is_math(row)) for row, label in zip(rows, labels, strict=True) for _ in SIDES]
        return self._answers.add(
            texts, [(*place, stated_numbers(text, place[2])) for place, text in zip(places, texts, strict=True)]
        )

    def _repeated(self, label: int, chosen: int, rejected: int, row: str) -> tuple[str, str]:
        if earlier := self._seen.get((label, chosen, rejected)):
            return "near_duplicate", earlier
        if earlier := self._seen.get((label, rejected, chosen)):
            return "opposite_pair", earlier
        self._seen[label, chosen, rejected] = row
        return "", ""


def asked(row: Row) -> list[str]:
    """Return the texts of a pair's prompt, without a system turn and without the steps of a begun solution."""
    prompt = row["prompt"][:-1] if begun(row) else row["prompt"]
    return [message["content"] for message in prompt if message["role"] != "system"]


def begun(row: Row) -> str:
    """Return the steps that begin the solution of a Step-DPO row, else an empty string."""
    last = row["prompt"][-1]
    return last["content"] if last["role"] == "assistant" else ""
