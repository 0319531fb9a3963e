"""One search form for Traditional and Simplified text, and the script of a text.

臺灣的軟體 and 台湾的软件 share not one pair of characters; folded to one form they meet. Only the search
form is folded: what is stored and shown stays as it was written.
"""

import re
import unicodedata
from functools import cache

HAN = re.compile(r"[㐀-䶿一-鿿豈-﫿]")
LATIN_WORD = re.compile(r"[A-Za-zÀ-ÿ]{2,}")


@cache
def _converter(name: str):
    from opencc import OpenCC

    return OpenCC(name)


def search_text(text: str) -> str:
    """Fold to NFKC, lower case and Simplified characters (OpenCC t2s); for matching, never for display."""
    return _converter("t2s").convert(unicodedata.normalize("NFKC", text)).lower()


@cache
def _script_characters() -> tuple[frozenset[str], frozenset[str]]:
    """Characters that prove a script: OpenCC maps them, and the other side's standard lacks them.

    The second test drops 后, 里, 台 …, which are Simplified forms but also common Traditional characters.
    """
    han = [chr(code) for code in range(0x4E00, 0xA000)]
    simplified = _converter("t2s").convert("\n".join(han)).split("\n")
    traditional = _converter("s2t").convert("\n".join(han)).split("\n")
    hant = frozenset(c for c, s in zip(han, simplified, strict=True) if c != s and not _in(c, "gb2312"))
    hans = frozenset(c for c, t in zip(han, traditional, strict=True) if c != t and not _in(c, "big5"))
    return hant, hans


def _in(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def script_of(text: str, default: str = "zh-Hant") -> str:
    """Return zh-Hant, zh-Hans, en or mixed.

    A Latin word weighs as two Han characters; below a tenth of Han it is "en", below a third "mixed". Among
    Han, a minority script above a fifth of the telling characters makes it "mixed"; with no telling
    character it is `default`, which the caller takes from the whole document.
    """
    han, words = HAN.findall(text), len(LATIN_WORD.findall(text))
    if not han and not words:
        return default
    share = len(han) / (len(han) + 2 * words)
    if share < 1 / 3:
        return "en" if share < 0.1 else "mixed"
    hant, hans = _script_characters()
    traditional, simplified = sum(c in hant for c in han), sum(c in hans for c in han)
    if not traditional + simplified:
        return default
    if min(traditional, simplified) > 0.2 * (traditional + simplified):
        return "mixed"
    return "zh-Hant" if traditional >= simplified else "zh-Hans"
