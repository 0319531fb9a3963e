"""One search form for Traditional and Simplified text, and the language and script of a text.

臺灣的軟體 and 台湾的软件 share not one pair of characters; folded to one form they meet. Only the search form
is folded: what is stored and shown stays as it was written, unless a reader asks for `conversion.to_reading`.

Script rule. A character is *Simplified-only* if OpenCC s2t changes it and it is not among the 5,401 frequent
characters of Big5; *Traditional-only* if t2s changes it and it is not in GB 2312. Characters used in both
scripts (里, 后, 台, 乾, 著) are therefore no evidence. A statistical detector separates the two scripts badly
on short texts; characters that exist in one of them only leave no doubt.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

BIG5_FREQUENT = range(0xA440, 0xC67F)
SHARED_IN_TAIWAN = "胜担"  # 胜肽 and 担仔麵 are written so in Taiwan, although s2t would change both
ENGLISH_MAX_HAN = 0.10  # Han / (Han + Latin words): at most this is English
CHINESE_MIN_HAN = 0.50  # at least this is Chinese with loan words; between the two it is mixed
HANT_MAX_SIMPLIFIED = 0.05  # Simplified-only / all one-script characters: at most this is zh-Hant
HANS_MIN_SIMPLIFIED = 0.80  # at least this is zh-Hans; between the two it is mixed
FOREIGN_MAX = 0.10  # letters of other scripts / all letters: more than this is mixed
KANA = re.compile(r"[ぁ-ゖァ-ヺｦ-ﾝ]")
QUOTED = re.compile(
    r"「[^」]{0,300}」|『[^』]{0,300}』|《[^》]{0,300}》|〈[^〉]{0,300}〉|“[^”]{0,300}”|[（(][^（()）]{0,300}[）)]"
)
HAN_RANGES = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000))
LATIN_RANGES = ((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250), (0xFF21, 0xFF3B), (0xFF41, 0xFF5B))
NEUTRAL_RANGES = ((0xAA, 0xBB), (0x370, 0x400), (0x3100, 0x3130))  # letters that Chinese prose uses: α, ㄅ
WIDE_MARKS = tuple(zip("，：？！；（）", ",:?!;()", strict=True))
STABLE = "\x00-\x7f\u3001-\u3020\u3041-\u3094\u30a1-\u30f6\u3400-\u4dbf\u4e00-\u9fff"  # each its own NFKC, and no mark
_CHANGING = re.compile(f"[^{STABLE}]+")
_HAN, _HANT, _HANS, _LATIN, _FOREIGN = 1, 2, 4, 8, 16


@lru_cache(maxsize=8)
def converter(config: str) -> Any:
    """Return a cached OpenCC converter; loading its dictionaries costs more than most conversions."""
    from opencc import OpenCC

    return OpenCC(config)


def search_text(text: str) -> str:
    """Fold to NFKC, lower case and Simplified characters (OpenCC t2s); for matching, never for display.

    看著 and 看着 are one word in two spellings; the table keeps 著 for 著名, a search must not.
    """
    return converter("t2s").convert(nfkc(text)).lower().replace("著", "着")


def nfkc(text: str) -> str:
    """Return `text` in Unicode's NFKC. Only what may change is looked up, which in Chinese is next to nothing.

    A character outside `STABLE` may combine with the one before it and no earlier one (UAX #15, section 9.1).
    """
    for wide, narrow in WIDE_MARKS:
        text = text.replace(wide, narrow)
    parts, done = [], 0
    for found in _CHANGING.finditer(text):
        start = max(done, found.start() - 1)
        parts += text[done:start], unicodedata.normalize("NFKC", text[start : found.end()])
        done = found.end()
    return "".join([*parts, text[done:]])


@lru_cache(maxsize=1)
def script_characters() -> tuple[frozenset[str], frozenset[str]]:
    """Return (Simplified-only, Traditional-only) characters, about 2,500 and 3,500 of them."""
    han = [chr(code) for code in range(0x4E00, 0xA000)]
    to_traditional = converter("s2t").convert("\n".join(han)).split("\n")
    to_simplified = converter("t2s").convert("\n".join(han)).split("\n")
    hans = {c for c, t in zip(han, to_traditional, strict=True) if t != c and not _frequent_in_big5(c)}
    hant = {c for c, s in zip(han, to_simplified, strict=True) if s != c and not _encodes(c, "gb2312")}
    return frozenset(hans - hant - set(SHARED_IN_TAIWAN)), frozenset(hant - hans)


def simplified_characters(text: str) -> list[str]:
    """Return the Simplified-only characters of `text`, in order, with repeats."""
    hans, _ = script_characters()
    return [c for c in text if c in hans]


@lru_cache(maxsize=1)
def japanese_characters() -> frozenset[str]:
    """Return the simplified forms of Japan that neither Chinese script has: 広, 県, 経, 済, 発 … (OpenCC jp2t)."""
    han = [chr(code) for code in range(0x4E00, 0xA000)]
    changed = converter("jp2t").convert("\n".join(han)).split("\n")
    pairs = zip(han, changed, strict=True)
    return frozenset(c for c, t in pairs if t != c and not _encodes(c, "gb2312") and not _encodes(c, "big5"))


def _encodes(character: str, codec: str) -> bytes:
    try:
        return character.encode(codec)
    except UnicodeEncodeError:
        return b""


def _frequent_in_big5(character: str) -> bool:
    return int.from_bytes(_encodes(character, "big5"), "big") in BIG5_FREQUENT


@lru_cache(maxsize=1)
def _classes() -> "np.ndarray":
    """A uint8 of class bits for every code point, so that a text is classified in one table look-up."""
    import numpy as np

    table = np.zeros(0x110000, np.uint8)
    table[:0x20000][[chr(code).isalpha() for code in range(0x20000)]] = _FOREIGN
    for ranges, bits in ((HAN_RANGES, _HAN), (LATIN_RANGES, _LATIN), (NEUTRAL_RANGES, 0)):
        for start, end in ranges:
            table[start:end] = bits
    table[[0xD7, 0xF7]] = 0  # × and ÷ lie among the accented letters
    for characters, bit in zip(script_characters(), (_HANS, _HANT), strict=True):
        table[[ord(c) for c in characters]] |= bit
    table[[ord(c) for c in japanese_characters()]] = _HAN | _FOREIGN
    return table


def code_points(text: str) -> "np.ndarray":
    """Return the text's code points, uint32 [characters]; a lone surrogate is kept as its number."""
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def count_scripts(texts: Sequence[str]) -> "np.ndarray":
    """Return int64 [texts, 6]: Han, Traditional-only, Simplified-only, Latin words, foreign letters, all letters."""
    import numpy as np

    if not texts:
        return np.zeros((0, 6), np.int64)
    lengths = np.array([len(text) + 1 for text in texts])
    classes = np.take(_classes(), code_points("\n".join(texts) + "\n"), mode="clip")
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    latin = classes == _LATIN
    word = latin.copy()
    word[1:] &= ~latin[:-1]
    word[:-1] &= latin[1:]  # a single letter is no word
    marks = [classes & bit != 0 for bit in (_HAN, _HANT, _HANS)] + [word, classes & _FOREIGN != 0, classes != 0]
    counts = np.stack([np.add.reduceat(mark, starts, dtype=np.int64) for mark in marks], axis=1)
    for at in (counts[:, 4] > 0).nonzero()[0]:
        counts[at, 4] = _foreign_letters(texts[at], counts[at])
    return counts


def _foreign_letters(text: str, counts: "np.ndarray") -> int:
    """Letters of other scripts; kana in a quotation is quoted, kana in the sentence itself makes it Japanese."""
    kana = len(KANA.findall(text))
    if not kana:
        return counts[4]
    return counts[5] if KANA.search(QUOTED.sub("", text)) else counts[4] - kana


def language(counts: Sequence[int], default: str = "zh-Hant") -> tuple[str, str]:
    """Decide (language, script) from one row of `count_scripts`.

    Language is `zh-Hant`, `zh-Hans`, `en` (any language in Latin letters) or `mixed`; script is by ISO 15924:
    Hant, Hans, Latn, Hani for Han characters that tell nothing (你好), Zyyy for a mixture or no letters at all.
    What tells nothing gets the language `default`.
    """
    han, hant, hans, words, foreign, letters = counts
    if foreign > FOREIGN_MAX * letters:
        return "mixed", "Zyyy"
    if not han + words:
        return default, "Zyyy"
    share = han / (han + words)
    if share < CHINESE_MIN_HAN:
        return ("en", "Latn") if share <= ENGLISH_MAX_HAN else ("mixed", "Zyyy")
    if not hant + hans:
        return default, "Hani"
    simplified = hans / (hans + hant)
    if simplified <= HANT_MAX_SIMPLIFIED:
        return "zh-Hant", "Hant"
    return ("zh-Hans", "Hans") if simplified >= HANS_MIN_SIMPLIFIED else ("mixed", "Zyyy")


def script_of(text: str, default: str = "zh-Hant") -> str:
    """Return zh-Hant, zh-Hans, en or mixed; `default` where no character tells."""
    return language(count_scripts([text])[0].tolist(), default)[0]
