"""Conversations and checked answers in a notebook: one output that grows, also where papermill runs the notebook.

What a model wrote is data: every text is escaped by the templates. Colours and fonts are the page's own, so that light
and dark themes both read well; the same words stand in a plain version for outputs that show no HTML.
"""

import re
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kyara_utils.chat.grounded import Grounded
from kyara_utils.chat.speakers import Speaker
from kyara_utils.chat.talk import Round, Talk
from kyara_utils.chat.terminal import grounded_text
from kyara_utils.llm import Model
from kyara_utils.runs.tables import Row
from kyara_utils.text.citation_form import CITATION

EVERY = 0.1  # seconds between two drawings: the eye sees no more, and a stored notebook holds the last one only


class Output:
    """One output of a cell, drawn again and again."""

    def __init__(self) -> None:
        self._drawn, self._handle = 0.0, None

    def draw(self, html: str, plain: str, last: bool = False) -> None:
        """Show, unless the last drawing was a moment ago; `last` always shows."""
        from IPython.display import display

        if not last and time.monotonic() - self._drawn < EVERY:
            return
        bundle = {"text/html": html, "text/plain": plain}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        self._drawn = time.monotonic()


def converse(talk: Talk, turns: Iterable[str]) -> None:
    """Say the turns one after the other; what is said here grows in one output, the system prompt at its very start."""
    output, said, system = Output(), [], "" if talk.rounds else talk.system
    for turn in turns:
        for response in talk.say(turn):
            output.draw(*_conversation(talk, system, [*said, Round(turn, response.text)]))
        said.append(talk.rounds[-1])
    output.draw(*_conversation(talk, system, said), last=True)


def _conversation(talk: Talk, system: str, said: Sequence[Round]) -> tuple[str, str]:
    rounds = [(one.asked, _shown(one.said, one.cut)) for one in said]
    plain = [f"system: {system}"] if system else []
    plain += [line for asked, answer in rounds for line in (f"> {asked}", answer)]
    return render("conversation", system=system, rounds=rounds, name=talk.speaker.model.name), "\n".join(plain)


def _shown(text: str, cut: bool) -> str:
    return f"{text.strip()} … (cut at the token limit)" if cut else text.strip()


def side_by_side(models: dict[str, Model], vocabulary: Path | None, questions: Sequence[str], **options: Any) -> None:
    """Ask every model every question, one model after the other; a table that fills, questions down, models across.

    options: those of `Speaker`.
    """
    output = Output()
    answers: dict[str, list[str]] = {name: [""] * len(questions) for name in models}
    for name, model in models.items():
        with Speaker(model, vocabulary, **options) as speaker:
            for number, question in enumerate(questions):
                for response in Talk(speaker).say(question):
                    answers[name][number] = _shown(response.text, response.truncated)
                    output.draw(*_table(questions, answers))
    output.draw(*_table(questions, answers), last=True)


def _table(questions: Sequence[str], answers: dict[str, list[str]]) -> tuple[str, str]:
    rows: list[Row] = [
        {"question": question, "answers": {name: said[number] for name, said in answers.items()}}
        for number, question in enumerate(questions)
    ]
    plain = [
        line for row in rows for line in (f"> {row['question']}", *(f"{n}: {a}" for n, a in row["answers"].items()))
    ]
    return render("table", names=list(answers), rows=rows), "\n".join(plain)


def show_grounded(found: Grounded, name: str = "") -> None:
    """A checked answer of the model `name`: each citation beside its passage, the sentence that bears it marked."""
    html = render("grounded", found=found, parts=_parts(found.answer), name=name)
    Output().draw(html, f"> {found.question}\n{name}: {grounded_text(found)}", last=True)


def _parts(text: str) -> list[tuple[bool, str]]:
    """The text in pieces (is a citation, piece)."""
    pieces = re.split(f"({CITATION.pattern.replace('(', '(?:', 1)})", text)
    return [(bool(CITATION.fullmatch(piece)), piece) for piece in pieces if piece]


def render(template: str, /, **values: Any) -> str:
    """Return a template of this room, filled."""
    return _environment().get_template(f"{template}.html.jinja").render(**values)


@cache
def _environment():
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parent / "templates")
    return Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
