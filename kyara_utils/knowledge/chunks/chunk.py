"""The passage that cutting makes, the embedder reads, the index stores and an answer cites."""

from dataclasses import dataclass


@dataclass(slots=True)  # frozen would cost more than cutting
class Chunk:
    """A passage. `heading` is the path of headings above it, `position` its number within the document.

    `tokens` counts `text` alone; `lang` is zh-Hant, zh-Hans, en or mixed, `script` is by ISO 15924
    (`normalise.language`). `path` is its document's in the corpus.
    """

    id: str
    doc_id: str
    title: str
    heading: str
    text: str
    position: int
    tokens: int
    lang: str
    script: str = ""
    path: str = ""

    @property
    def topic(self) -> str:
        """The first folder of the path."""
        return self.path.split("/")[0] if "/" in self.path else ""

    def passage(self) -> str:
        """What is embedded and indexed: title, headings and text, so that a chunk keeps its subject."""
        return passage(self.title, self.heading, self.text)


def passage(title: str, heading: str, text: str) -> str:
    """The passage of a chunk, from its three fields."""
    return "\n".join(part for part in (title, heading, text) if part)
