"""`python -m kyara_utils chat RECIPE`: a conversation in the terminal, or line by line from a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from kyara_utils.chat.grounded import Grounded, answer_from
from kyara_utils.chat.library import library
from kyara_utils.chat.speakers import Speaker, choose, missing, vocabulary_of
from kyara_utils.chat.talk import Talk
from kyara_utils.knowledge.index.ranking import Index
from kyara_utils.llm import Response
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.finished import so_far

HELP = "/system TEXT sets the system prompt and begins anew · /reset begins anew · /quit ends"
ALONE = "with --rag every question stands alone, without a system prompt · /quit ends"
PROMPT = "> "
SHOWN = 160  # characters of a passage under an answer
Write = Callable[[str], object]


def chat(recipe: str, name: str, rag: bool, system: str, most: int, threads: int) -> int:
    """Talk to a model of a recipe until the end of input; return 1 where a line of a pipe could not be answered."""
    if rag and system:
        raise KyaraError("--rag asks in the card's format, which has no system turn; leave --system out")
    found, interactive = so_far(recipe), sys.stdin.isatty()
    model = choose(found, name)
    with ExitStack() as opened:
        speaker = opened.enter_context(Speaker(model, vocabulary_of(found), most, threads))
        index = opened.enter_context(library(found)) if rag else None
        terminal = Terminal(Talk(speaker, system), _write, index)
        told = [missing(recipe, found), f"{model.name} of {recipe}{_sources(index)} · {ALONE if rag else HELP}"]
        _write("".join(f"{line}\n" for line in told if line))
        terminal.run(lines(interactive))
    return int(terminal.failed and not interactive)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _sources(index: Index | None) -> str:
    return f", from {len(index):,} passages" if index is not None else ""


def lines(interactive: bool) -> Iterator[str]:
    """What the user types, until Ctrl-D or Ctrl-C; lines of a pipe are echoed, so that its output can be read.

    Raises `KyaraError` for a pipe that is not UTF-8; of what is typed such a line is asked for again.
    """
    if interactive:
        import readline  # noqa: F401  arrow keys and history in `input`
    while True:
        try:
            line = input(PROMPT)
            line.encode()  # in a bare locale what is not UTF-8 comes as halves of surrogates, which no server takes
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n" if interactive else "")
            return
        except UnicodeError as error:
            if not interactive:
                raise KyaraError(f"a line is not UTF-8 ({error.reason}); convert it, as iconv -f big5 does") from error
            sys.stdout.write("that was not UTF-8; type it again\n")
            continue
        if not interactive:
            sys.stdout.write(f"{line}\n")
        yield line


@dataclass
class Terminal:
    """Answers lines. index: what answers are drawn from; without one the model answers freely.

    write: takes text as it comes, line breaks included.
    """

    talk: Talk
    write: Write
    index: Index | None = None
    failed: bool = False

    def run(self, typed: Iterator[str]) -> None:
        """Answer line after line until `/quit` or the end of input; an error is told and the next line read."""
        for line in typed:
            text = line.strip()
            if text in ("/quit", "/exit"):
                return
            if text:
                self._tried(text)

    def _tried(self, text: str) -> None:
        try:
            self._command(text) if text.startswith("/") else self._answer(text)
        except KyaraError as error:
            self.failed = True
            self.write(f"error: {error}\n")
        except KeyboardInterrupt:  # the answer is dropped, the conversation goes on
            self.write(" … stopped\n")

    def _command(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        if self.index is not None:
            self.write(f"{ALONE}\n")
            return
        if name == "/system":
            self.talk.system = rest.strip()
        if name not in ("/system", "/reset"):
            self.write(f"{HELP}\n")
            return
        self.talk.reset()
        said = f"system prompt: {self.talk.system}" if self.talk.system else "no system prompt"
        self.write(f"a new conversation, {said}\n")

    def _answer(self, text: str) -> None:
        if self.index is not None:
            self.write(grounded_text(answer_from(self.index, self.talk.speaker, text)))
            return
        before, response = self.talk.forgotten, Response("")
        shown = ""
        for response in self.talk.say(text):
            self.write(response.text.lstrip()[len(shown) :])
            shown = response.text.lstrip()
        self.write(" … (cut at the token limit)\n" if response.truncated else "\n")
        if self.talk.forgotten > before:
            self.write(f"({self.talk.forgotten} oldest round(s) no longer fit into the context)\n")


def grounded_text(found: Grounded) -> str:
    """A checked answer as lines: the answer, why a draft was refused, each citation beside its passage."""
    rows = [found.answer]
    if found.reason and found.draft != found.answer:
        rows += [f"  refused, because {found.reason}", f"  draft: {_short(found.draft) or '(empty)'}"]
    for claim in found.claims:
        rows += [f"  【{claim.id}】{claim.title} · has {claim.share:.0%} of the statement's terms: {claim.verdict}"]
        rows += [f"    {_short(claim.sentence)}"] if claim.sentence else []
    if not found.claims:
        rows += [f"  searched: {', '.join(dict.fromkeys(item['title'] for item in found.passages)) or 'nothing'}"]
    return "\n".join(rows) + "\n"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
