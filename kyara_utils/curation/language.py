"""Which language and script a text is in, by the evidence of single characters.

A statistical language detector does not separate Traditional from Simplified reliably on short answers, and a
small teacher switches script in mid-sentence. Characters that exist in one script only leave no doubt.

Rule. A character is *Simplified-only* if OpenCC s2t changes it and it is not among the 5,401 frequent
characters of Big5; *Traditional-only* if t2s changes it and it is not in GB 2312. Characters used in both
scripts (里, 后, 台, 乾, 著) are therefore no evidence.
"""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

from kyara_utils.curation.text import STEP, Row, converter, prose
from kyara_utils.runs.tables import reject, turns

BIG5_FREQUENT = range(0xA440, 0xC67F)
SHARED_IN_TAIWAN = "胜担"  # 胜肽 and 担仔麵 are written so in Taiwan, although s2t would change both
ENGLISH_MAX_HAN = 0.10  # Han / (Han + Latin words): at most this is English
CHINESE_MIN_HAN = 0.50  # at least this is Chinese with loan words; between the two it is mixed
HANT_MAX_SIMPLIFIED = 0.05  # Simplified-only / all one-script characters: at most this is zh-Hant
HANS_MIN_SIMPLIFIED = 0.80  # at least this is zh-Hans; between the two it is mixed
FOREIGN_MAX = 0.10  # letters of other scripts / all letters: more than this is mixed

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
_WORD = re.compile(r"[A-Za-zÀ-ɏ]{2,}(?:['’][A-Za-z]+)?")
_NOT_PROSE = re.compile(r"https?://\S+|\\[A-Za-z]+|`[^`\n]*`|\$[^$\n]*\$")
_LATIN_LIKE = re.compile(r"[A-Za-zÀ-ɏͰ-Ͽ\u3100-\u312f]")


@lru_cache(maxsize=1)
def script_characters() -> tuple[frozenset[str], frozenset[str]]:
    """Return (Simplified-only, Traditional-only) characters, about 2,500 and 3,500 of them."""
    han = [chr(code) for code in range(0x4E00, 0xA000)]
    to_traditional = converter("s2t").convert("\n".join(han)).split("\n")
    to_simplified = converter("t2s").convert("\n".join(han)).split("\n")
    hans = {c for c, t in zip(han, to_traditional, strict=True) if t != c and not _frequent_in_big5(c)}
    hant = {c for c, s in zip(han, to_simplified, strict=True) if s != c and not _encodes(c, "gb2312")}
    return frozenset(hans - hant - set(SHARED_IN_TAIWAN)), frozenset(hant - hans)


def _encodes(character: str, codec: str) -> bytes:
    try:
        return character.encode(codec)
    except UnicodeEncodeError:
        return b""


def _frequent_in_big5(character: str) -> bool:
    return int.from_bytes(_encodes(character, "big5"), "big") in BIG5_FREQUENT


def simplified_characters(text: str) -> list[str]:
    """Return the Simplified-only characters of `text`, in order, with repeats."""
    hans, _ = script_characters()
    return [c for c in text if c in hans]


def language_of(text: str) -> str:
    """Return `zh-Hant`, `zh-Hans`, `en` or `mixed` for `text`; code, links and formulas do not count.

    Chinese without any one-script character (你好) is `zh-Hant`: it reads the same. A text without words is
    `mixed`. Other languages in Latin letters count as `en`; the sources of the recipe have none.
    """
    text = unicodedata.normalize("NFKC", _NOT_PROSE.sub(" ", prose(text)))
    han, words = len(_HAN.findall(text)), len(_WORD.findall(text))
    letters = sum(c.isalpha() for c in text)
    if han + words == 0 or letters - han - len(_LATIN_LIKE.findall(text)) > FOREIGN_MAX * letters:
        return "mixed"
    share = han / (han + words)
    if share < CHINESE_MIN_HAN:
        return "en" if share <= ENGLISH_MAX_HAN else "mixed"
    return _script_of(text)


def _script_of(text: str) -> str:
    hans, hant = script_characters()
    simplified, traditional = sum(c in hans for c in text), sum(c in hant for c in text)
    share = simplified / (simplified + traditional) if simplified else 0.0
    if share <= HANT_MAX_SIMPLIFIED:
        return "zh-Hant"
    return "zh-Hans" if share >= HANS_MIN_SIMPLIFIED else "mixed"


def by_language(rows: list[Row], keep: Collection[str] = frozenset({"zh-Hant", "en"})) -> tuple[list[Row], list[Row]]:
    """Set `lang` from the assistant turns and keep the rows in a wanted language; rule `language`.

    An answer without words (a bare number) is judged with the whole conversation.
    """
    kept, rejects = [], []
    for row in rows:
        text = "\n".join(turns(row, "assistant"))
        if not _HAN.search(text) and not _WORD.search(text):
            text = "\n".join(m["content"] or "" for m in row["messages"])
        row = {**row, "lang": language_of(text)}
        if row["lang"] in keep:
            kept.append(row)
        else:
            rejects.append(reject(STEP, "language", row, f"lang={row['lang']}"))
    return kept, rejects
