"""Prompts as files: YAML front matter, then turns; documents and model output are data, never template.

    ---
    id: question
    version: 1
    language: zh-Hant
    inputs: [document]
    ---
    === system
    ...
    === user
    文件:{{ document }}
    問題:
    === assistant
    ...

Each turn is a Jinja template of its own, split off before rendering, so a document that contains `=== user` or
`{{ x }}` stays text. A missing input is an error. `schema` in the front matter constrains the answer; an English
version of `question.md` is `question.en.md`, with the same inputs.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from kyara_utils.runs.errors import KyaraError

Message = dict[str, str]
ROLES = ("system", "user", "assistant")
_ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=False)


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt file: its front matter and its turns as templates."""

    id: str
    version: int
    language: str
    inputs: tuple[str, ...]
    turns: tuple[tuple[str, jinja2.Template], ...]
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """`id@version`, as rows record it."""
        return f"{self.id}@{self.version}"

    def messages(self, **inputs: Any) -> list[Message]:
        """Render the turns; the inputs must be exactly those declared."""
        if set(inputs) != set(self.inputs):
            raise KyaraError(f"prompt {self.id} takes {', '.join(self.inputs)}; it was given {', '.join(inputs)}")
        return [{"role": role, "content": template.render(**inputs)} for role, template in self.turns]


@lru_cache
def load_prompt(name: str, language: str = "zh-Hant") -> Prompt:
    """Load `room/prompt` from `kyara_utils/<room>/prompts/<prompt>.md`, or its version in another language."""
    room, _, file = name.partition("/")
    suffix = "" if language == "zh-Hant" else f".{language}"
    path = Path(__file__).parents[1] / room / "prompts" / f"{file}{suffix}.md"
    if not path.is_file():
        raise KyaraError(f"no prompt {name} ({path}); see the files beside it")
    _, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(front)
    return Prompt(
        f"{room}/{head['id']}", head["version"], head["language"], tuple(head["inputs"]),
        tuple(_turns(body, path)), tuple(head.get("stop", ())), head.get("schema"),
    )  # fmt: skip


def _turns(body: str, path: Path) -> list[tuple[str, jinja2.Template]]:
    turns = []
    for part in ("\n" + body).split("\n=== ")[1:]:
        role, _, text = part.partition("\n")
        if role.strip() not in ROLES:
            raise KyaraError(f"{path}: a turn is `=== system|user|assistant`, not `=== {role}`")
        turns.append((role.strip(), _ENVIRONMENT.from_string(text.strip("\n"))))
    return turns


def plain_text(messages: list[Message]) -> str:
    """Render messages for a base model: the instruction, then blocks of user text with its answer, blank lines between.

    A user turn ends in a label such as `問題:`, which a base model completes (notes: it needs its own dialect).
    """
    blocks: list[str] = []
    for message in messages:
        if message["role"] == "assistant":
            blocks[-1] += message["content"]
        else:
            blocks.append(message["content"])
    return "\n\n".join(blocks)
