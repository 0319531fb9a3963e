"""Which language and script a conversation is in, by the rule of `text.normalise`, on its prose alone.

A small teacher switches script in mid-sentence and pastes code, links and formulas, whose Latin letters say
nothing about the language of the answer; they are taken out before the characters are counted.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence

from kyara_utils.curation.rows import STEP, is_short
from kyara_utils.runs.stored_rows import having, taken
from kyara_utils.runs.tables import Row, reject, turns
from kyara_utils.text.folding import prose
from kyara_utils.text.normalise import count_scripts, language

BATCH = 256  # rows whose characters are counted at once
_NOT_PROSE = re.compile(r"https?://\S+|\\[A-Za-z]+|`[^`\n]*`|\$[^$\n]*\$")


def language_of(text: str) -> str:
    """Return `zh-Hant`, `zh-Hans`, `en` or `mixed` for `text`; code, links and formulas do not count.

    Chinese without any one-script character (你好) is `zh-Hant`: it reads the same. A text without words is
    `mixed`. Other languages in Latin letters count as `en`; the sources of the recipe have none.
    """
    return languages_of([text])[0]


def languages_of(texts: Sequence[str]) -> list[str]:
    """Return `language_of` each text; together they are counted faster."""
    plain = [unicodedata.normalize("NFKC", _NOT_PROSE.sub(" ", prose(text))) for text in texts]
    return [language(row)[0] if _has_words(row) else "mixed" for row in count_scripts(plain).tolist()]


def _has_words(counts: list[int]) -> bool:
    han, words = counts[0], counts[3]
    return han + words > 0


def by_language(
    rows: Sequence[Row], keep: Collection[str] = frozenset({"zh-Hant", "en"})
) -> tuple[Sequence[Row], list[Row]]:
    """Set `lang` from the assistant turns and keep the rows in a wanted language; rule `language`.

    An answer without words (a bare number), or of a word or two (`is_short`), is judged with the whole conversation.
    Rows are read a batch at a time.
    """
    kept, langs, rejects = [], [], []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        for at, (row, found) in enumerate(zip(batch, languages_of(_judged(batch)), strict=True), start):
            if found in keep:
                kept.append(at)
                langs.append(found)
            else:
                rejects.append(reject(STEP, "language", {**row, "lang": found}, f"lang={found}"))
    return having(taken(rows, kept), lang=langs), rejects


def _judged(rows: Sequence[Row]) -> list[str]:
    """The text by which each row is judged."""
    texts = ["\n".join(turns(row, "assistant")) for row in rows]
    for at, counts in enumerate(count_scripts(texts).tolist()):
        if not _has_words(counts) or is_short(rows[at]):
            texts[at] = "\n".join(message["content"] or "" for message in rows[at]["messages"])
    return texts
