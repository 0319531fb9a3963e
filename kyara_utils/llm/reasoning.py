"""Reasoning taken off an answer, once and for all rooms: what a model thought aloud is neither answer nor verdict."""

import re
from typing import NamedTuple

NAMES = "think|thinking|thought|reasoning|seed:think"
# A tag in backticks is talked about, not used. Mistral's models write square brackets.
OPENING = rf"(?<!`)(?:<(?:{NAMES})>|\[THINK\])"
CLOSING = rf"(?<!`)(?:</(?:{NAMES})>|\[/THINK\])"
MARK = re.compile(f"{OPENING}|{CLOSING}", re.I)
BLOCK = re.compile(f"{OPENING}(.*?){CLOSING}", re.I | re.S)
END = re.compile(CLOSING, re.I)
BEGIN = re.compile(OPENING, re.I)


class Split(NamedTuple):
    """An answer without its reasoning, the reasoning, and whether that never came to an end."""

    text: str
    reasoning: str
    unclosed: bool


def split_reasoning(content: str) -> Split:
    """Part `<think>…</think>` (or `thinking`, `thought`, `reasoning`, `[THINK]`) from the answer.

    A closing tag alone ends reasoning that began in the template, as DeepSeek-R1's does; an opening tag alone means
    that the token limit fell within the reasoning: all after it is reasoning.
    """
    if ("<" not in content and "[" not in content) or not MARK.search(content):
        return Split(content, "", False)
    thoughts = BLOCK.findall(content)
    text = BLOCK.sub("", content)
    *before, text = END.split(text)
    if before and not text.strip() and thoughts:  # a stray closing tag behind a finished answer
        text = before.pop()
    rest = BEGIN.split(text)
    thoughts += before + rest[1:]
    return Split(rest[0].strip(), "\n\n".join(thought.strip() for thought in thoughts), len(rest) > 1)
