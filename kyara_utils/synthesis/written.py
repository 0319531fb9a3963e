"""Reading what a model wrote as data: JSON in whatever wrapping it comes, or one text per line.

Models fence their JSON, talk before it, leave a comma behind or type “ ” for quotes: `llm.formats` repairs it;
what names none of the wanted keys is no answer, and the caller counts it as a reject.
"""

import re
from typing import Any

from kyara_utils.llm.formats import json_values

_NUMBERED = re.compile(r"^\s*(?:[-*•・]|(?:問題|題目|question|q)?\s*[（(]?\d{1,2}\s*[.、)）:：])\s*", re.I)
_LABEL = re.compile(r"^(?:問題|追問|要求|question|request)\s*[一二三四五\d]?\s*[:：]\s*", re.I)
_PAIRED = {"「": "」", "“": "”", '"': '"', "『": "』", "**": "**"}


def read_object(text: str, key: str) -> Any:
    """Return the value under `key` of the JSON object in a text, or None where there is no such object."""
    for found in json_values(text, repair=True):
        for item in found if isinstance(found, list) else [found]:
            inner = [value for value in item.values() if isinstance(value, dict)] if isinstance(item, dict) else []
            if holder := next((part for part in (item, *inner) if isinstance(part, dict) and key in part), None):
                return holder[key]
    return None


def read_items(text: str, key: str) -> list[Any]:
    """Return the list under `key` of the JSON in a text, or the lines of a text without JSON; [] for anything else."""
    found = read_object(text, key)
    if isinstance(found, list) and found:
        return found
    return [] if "{" in text else lines(text)


def strings(found: Any) -> list[str]:
    """Return the distinct texts of a list (or the only one) as JSON gave it, whatever is no text left out."""
    found = [found] if isinstance(found, str) else found
    texts = [item.strip() for item in found if isinstance(item, str)] if isinstance(found, list) else []
    return list(dict.fromkeys(text for text in texts if text))


def lines(text: str) -> list[str]:
    """Return one text per line, without list numbers, labels and the quotes around it."""
    return [found for line in text.splitlines() if (found := bare(_NUMBERED.sub("", line)))]


def bare(text: str) -> str:
    """Return one text without the label (問題：) and the pair of quotes that a model puts around it."""
    text = _LABEL.sub("", text.strip()).strip()
    for opening, closing in _PAIRED.items():
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and inner.strip() and opening not in inner:
            return inner.strip()
    return text
