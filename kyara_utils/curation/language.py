"""Which language and script a conversation is in, by the rule of `text.normalise`, on its prose alone.

A small teacher switches script in mid-sentence and pastes code, links and formulas, whose Latin letters say
nothing about the language of the answer; they are taken out before the characters are counted.
"""

import re
import unicodedata
from collections.abc import Collection

from kyara_utils.curation.rows import STEP, Row
from kyara_utils.runs.tables import reject, turns
from kyara_utils.text.folding import prose
from kyara_utils.text.normalise import count_scripts, language

_NOT_PROSE = re.compile(r"https?://\S+|\\[A-Za-z]+|`[^`\n]*`|\$[^$\n]*\$")


def language_of(text: str) -> str:
    """Return `zh-Hant`, `zh-Hans`, `en` or `mixed` for `text`; code, links and formulas do not count.

    Chinese without any one-script character (你好) is `zh-Hant`: it reads the same. A text without words is
    `mixed`. Other languages in Latin letters count as `en`; the sources of the recipe have none.
    """
    counts = _counts(unicodedata.normalize("NFKC", _NOT_PROSE.sub(" ", prose(text))))
    return language(counts)[0] if _has_words(counts) else "mixed"


def _counts(text: str) -> list[int]:
    return count_scripts([text])[0].tolist()


def _has_words(counts: list[int]) -> bool:
    han, words = counts[0], counts[3]
    return han + words > 0


def by_language(rows: list[Row], keep: Collection[str] = frozenset({"zh-Hant", "en"})) -> tuple[list[Row], list[Row]]:
    """Set `lang` from the assistant turns and keep the rows in a wanted language; rule `language`.

    An answer without words (a bare number) is judged with the whole conversation. Rows are read one by one.
    """
    kept, rejects = [], []
    for row in rows:
        text = "\n".join(turns(row, "assistant"))
        if not _has_words(_counts(text)):
            text = "\n".join(m["content"] or "" for m in row["messages"])
        row = {**row, "lang": language_of(text)}
        if row["lang"] in keep:
            kept.append(row)
        else:
            rejects.append(reject(STEP, "language", row, f"lang={row['lang']}"))
    return kept, rejects
