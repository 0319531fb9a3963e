"""Reasoning taken off an answer, once and for all rooms: what a model thought aloud is neither answer nor verdict."""

import re
from typing import NamedTuple

NAMES = "think|thinking|thought|reasoning|seed:think"
# A tag in backticks is talked about, not used. Others are those of Mistral, Kimi, Cohere, Sky-T1, gpt-oss and MedGemma.
OPENING = (
    rf"(?<!`)(?:<(?:{NAMES})\s*>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>"
    r"|<\|channel\|>(?:analysis|commentary)[^<]{0,80}<\|message\|>|<unused94>(?:thought)?)"
)
CLOSING = (
    rf"(?<!`)(?:</(?:{NAMES})\s*>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>"
    r"|(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|<unused95>)"
)
# What some of them put round the answer behind the reasoning.
WRAPPED = re.compile(
    r"\A\s*<(?:answer|response|output|\|begin_of_solution\||\|START_RESPONSE\|)>(.*?)"
    r"(?:</(?:answer|response|output)>|<\|(?:end_of_solution|END_RESPONSE)\|>)?\s*\Z",
    re.I | re.S,
)
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
    """Part `<think>…</think>` (or what else models mark their reasoning with) from the answer.

    A closing tag alone ends reasoning that began in the template, as DeepSeek-R1's does; an opening tag alone means
    that the token limit fell within the reasoning: all after it is reasoning.
    """
    first = MARK.search(content) if set(content) & set("<[◁") else None
    shown = first and BEGIN.match(content, first.start()) and content[: first.start()].count("```") % 2
    if not first or shown:  # within a code block it is talked about
        return Split(content, "", False)
    thoughts = BLOCK.findall(content)
    text = BLOCK.sub("", content)
    *before, text = END.split(text)
    if before and not text.strip() and thoughts:  # a stray closing tag behind a finished answer
        text = before.pop()
    rest = BEGIN.split(text)
    thoughts += before + rest[1:]
    text = WRAPPED.sub(r"\1", rest[0]) if any(thoughts) else rest[0]
    return Split(text.strip(), "\n\n".join(thought.strip() for thought in thoughts), len(rest) > 1)
