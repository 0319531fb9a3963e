"""The passage that cutting makes, the embedder reads, the index stores and an answer cites."""

from dataclasses import dataclass


@dataclass(slots=True)  # frozen would cost more than cutting
class Chunk:
    """A passage. `heading` is the path of headings above it, `position` its number within the document.

    `tokens` counts `text` alone; `lang` is one of DESIGN's languages, `script` is by ISO 15924 (`normalise.language`).
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

    def passage(self) -> str:
        """What is embedded and indexed: title, headings and text, so that a chunk keeps its subject."""
        return "\n".join(part for part in (self.title, self.heading, self.text) if part)
