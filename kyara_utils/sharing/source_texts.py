"""The passages that a row was made from, with their texts: what every export carries beside question and answer."""

from collections.abc import Sequence
from itertools import chain

from kyara_utils.report.data_sets import CONVERSATIONS, PASSAGES, PREFERENCES, DataSet, passage_ids
from kyara_utils.runs.tables import Row


class SourceTexts:
    """`of(row)` are the passages of a training row, or of a pair through the rows that it comes from.

    Holds the texts of all passages that training rows name: some 1 kB each.
    """

    def __init__(self, sets: Sequence[DataSet]) -> None:
        named = [one for one in sets if one.name == PASSAGES]
        rows = chain.from_iterable(one.rows(["id", "title", "text"]) for one in named)
        self._texts = {row["id"]: row for row in rows}
        pairs = chain.from_iterable(one.rows(["id", "parents"]) for one in sets if one.name == PREFERENCES)
        wanted = {parent for row in pairs for parent in row["parents"] or ()}
        base = chain.from_iterable(one.rows(["id", "parents", "meta"]) for one in sets if one.name == CONVERSATIONS[0])
        self._parents = {row["id"]: passage_ids(row) for row in base if row["id"] in wanted}

    def of(self, row: Row) -> list[Row]:
        """[{id, title, text}], the source first; empty where a row has none (maths, open sets)."""
        if "meta" in row:
            ids = passage_ids(row)
        else:
            ids = list(dict.fromkeys(name for one in row["parents"] or () for name in self._parents.get(one, ())))
        return [self._texts[name] for name in ids if name in self._texts]


def as_text(passages: Sequence[Row]) -> str:
    """Passages as one text, each under its id and title, as answers cite them."""
    return "\n\n".join(f"【{one['id']}】{one['title']}\n{one['text']}" for one in passages)
