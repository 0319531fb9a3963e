"""A conversation of several turns with one model, told as it is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kyara_utils.chat.speakers import Speaker
from kyara_utils.evaluation.backends.conversation import REPEAT_PENALTY, chat, few_shot
from kyara_utils.llm import Request, Response, load_prompt
from kyara_utils.llm.prompts import Message
from kyara_utils.llm.streaming import TooLong


class Round(NamedTuple):
    """A question and its answer; cut: whether the token limit ended it."""

    asked: str
    said: str
    cut: bool = False


@dataclass
class Talk:
    """The rounds so far. A base model, which knows no turns, sees the worked examples that evaluation shows it.

    system: what is said first; forgotten: how many rounds no longer fitted into the context and were left out.
    """

    speaker: Speaker
    system: str = ""
    temperature: float = 0.0
    rounds: list[Round] = field(default_factory=list)
    forgotten: int = 0

    def say(self, text: str) -> Iterator[Response]:
        """Yield the answer as it grows; the round counts once it is complete.

        Where the conversation has become longer than the context, its oldest rounds are left out; a message that is too
        long by itself raises `TooLong`, and the conversation stays as it was.
        """
        response = Response("")
        for response in self._fitting(text):
            yield response
        self.rounds.append(Round(text, response.text.strip(), response.truncated))

    def _fitting(self, text: str) -> Iterator[Response]:
        for left_out in range(len(self.rounds) + 1):
            kept = self.rounds[left_out:]
            try:
                yield from self.speaker.stream(self._request(text, kept))
            except TooLong:  # which comes before the first word
                if not kept:
                    raise
            else:
                self.rounds, self.forgotten = kept, self.forgotten + left_out
                return

    def reset(self) -> None:
        """Begin anew; the system prompt stays."""
        self.rounds, self.forgotten = [], 0

    def _request(self, text: str, rounds: Sequence[Round]) -> Request:
        model, asked = self.speaker.model, [*(one.asked for one in rounds), text]
        said = [one.said for one in rounds]
        penalty = REPEAT_PENALTY if model.embedded else 1.0
        options = {"temperature": self.temperature, "repeat_penalty": penalty, "max_tokens": self.speaker.most}
        if model.dialect != "completion":
            return Request(self._opened(chat(asked, said)), **options)
        shown = few_shot(asked, said)
        return Request(self._opened(shown[bool(self.system) :]), stop=load_prompt("preference/reply").stop, **options)

    def _opened(self, messages: list[Message]) -> list[Message]:
        return [{"role": "system", "content": self.system}, *messages] if self.system else messages
