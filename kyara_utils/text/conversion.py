"""Reading text from Simplified to Traditional characters, sentence by sentence.

A table that starts from Simplified corrupts what is Traditional already (干預 becomes 幹預, 姓于 姓於), and real
texts hold both: a quotation, a title, a page that someone half converted. So each sentence is judged by the characters
that exist in one script only, and one without such characters goes with the sentence before it.
"""

import re

from kyara_utils.runs.errors import KyaraError
from kyara_utils.text.normalise import converter, count_scripts
from kyara_utils.text.taiwan_usage import targets

CONVERSIONS = ("s2t", "s2tw", "s2twp", "t2s")
SENTENCE = re.compile(r"[^。！？；\n]*[。！？；\n」』”’）]*")
SIMPLIFIED = 0.5  # of the characters of one script: more than this share is a Simplified sentence


def to_reading(text: str, convert: str) -> str:
    """Convert the Simplified sentences of a text by an OpenCC table, "s2twp" for Taiwanese usage.

    An empty table leaves the text as it is, "t2s" converts all of it. Raises `KyaraError` on an unknown table.
    """
    if convert and convert not in CONVERSIONS:
        raise KyaraError(
            f"convert {convert!r} is no known conversion; use one of {', '.join(CONVERSIONS)} or an empty one"
        )
    if not convert or not text:
        return text
    if not convert.startswith("s2"):
        return converter(convert).convert(text)
    return "".join(_converted(run, convert) if simplified else run for run, simplified in _runs(text))


def title_to_reading(title: str, text: str, convert: str) -> str:
    """Convert a title; where its own characters tell nothing, as most of its text is written."""
    if not convert.startswith("s2") or _judge([title])[0] is not None:
        return to_reading(title, convert)
    _, hant, hans, *_ = count_scripts([text])[0].tolist()
    return _converted(title, convert) if hans > hant else title


def _judge(sentences: list[str]) -> list[bool | None]:
    """Whether each sentence is Simplified; None where no character tells."""
    counts = count_scripts(sentences)
    return [None if not hant + hans else bool(hans > SIMPLIFIED * (hant + hans)) for hant, hans in counts[:, 1:3]]


def _runs(text: str) -> list[tuple[str, bool]]:
    """Neighbouring sentences of one script put together; what tells nothing goes with what stands before it."""
    sentences = [found[0] for found in SENTENCE.finditer(text) if found[0]]
    judged = _judge(sentences)
    last = next((simplified for simplified in judged if simplified is not None), False)
    runs: list[tuple[list[str], bool]] = []
    for sentence, simplified in zip(sentences, judged, strict=True):
        last = last if simplified is None else simplified
        if not runs or runs[-1][1] != last:
            runs.append(([], last))
        runs[-1][0].append(sentence)
    return [("".join(parts), simplified) for parts, simplified in runs]


def _converted(text: str, convert: str) -> str:
    """Convert by the table, but for the places where it is known to go wrong on the way to Taiwanese usage."""
    table = converter(convert)
    if convert != "s2twp":
        return table.convert(text)
    parts, end = [], 0
    for start, stop, target in targets(text):
        parts += [table.convert(text[end:start]), target]
        end = stop
    return "".join([*parts, table.convert(text[end:])])
