"""Exact match and character F1 of a short answer, by DRCD's own rules and with scripts and marks folded.

DRCD (Shao et al. 2018, arXiv 1806.00920, section 4.1) takes both measures from SQuAD 1.1 (Rajpurkar et al. 2016,
`evaluate-v1.1.py`): lower case, no ASCII punctuation, no English articles, white space as single spaces; the best of
all gold answers counts. Its authors publish no script and say in DRCD's repository what they changed: F1 counts
characters instead of words, and the full-width marks of `MARKS` go as well. Others score DRCD with CMRC 2018's script
(longest common substring); figures of the two are not comparable. By these rules the people who answered the
development questions agree with their annotators at 79.1 exact match and 92.4 F1; the paper gives 93.3 F1 for the test
questions.
"""

import re
import string
from collections.abc import Sequence

from kyara_utils.evaluation.scoring import outcome
from kyara_utils.runs.tables import Row
from kyara_utils.text.folding import character_f1, fold, holds

MARKS = "《》？，。、；："
_GONE = str.maketrans("", "", string.punctuation + MARKS)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_FIGURE = re.compile(r"[\d零〇一二三四五六七八九十百千萬]+")
MEASURES = ("outcome", "f1", "folded", "folded_f1")  # fields of a scored answer


def normalise(text: str) -> str:
    """Return a text as DRCD compares it; the spaces that stay are characters of F1, as in the authors' change."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_GONE)).split())


def score_short(text: str, golds: Sequence[str]) -> Row:
    """Score an answer: `outcome` (exact match) and `f1` by DRCD's rules, `folded` and `folded_f1` over both scripts.

    Folded: NFKC, Simplified characters, letters and digits only, so that 台灣 in Simplified characters or in brackets
    counts as right. The best gold answer counts, for each measure by itself.
    """
    found: Row = {}
    for prefix, form in (("", normalise), ("folded_", fold)):
        given, wanted = form(text), [form(gold) for gold in golds]
        found[prefix.rstrip("_") or "outcome"] = outcome(given in wanted)
        found[f"{prefix}f1"] = max(character_f1(given, gold) for gold in wanted)
    return found


def contains(text: str, golds: Sequence[str]) -> bool:
    """Whether a longer text gives a gold answer, as DRCD compares texts.

    No number counts within a longer one (see `holds`). Behind the first gold answer, one of a single character or of
    figures alone counts as the whole text only.
    """
    given, first = normalise(text), normalise(golds[0]) if golds else ""
    for wanted in filter(None, map(normalise, golds)):
        telling = wanted == first or (len(wanted) > 1 and not _FIGURE.fullmatch(wanted))
        if wanted == given or (telling and holds(given, wanted)):
            return True
    return False


def first_line(text: str) -> str:
    """Return the first line that is not empty: a short answer ends there, for every model alike."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
