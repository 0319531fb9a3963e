"""Vocabulary trimming, the choice: which tokens of a model a run needs.

168 of the embedded Gemma's 268 million parameters are the embeddings of 262,144 tokens. Keeping the 20,480
that the run's texts use makes training on a CPU about four times and decoding about twice as fast, and it is
exact: the texts get the same tokens, and the logits of the kept tokens do not change. Text from elsewhere
falls back to smaller pieces or bytes, never to `<unk>`. `gguf_trimming` and `vocabulary_trimming` write
the smaller model.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from kyara_utils.models.gguf_tokenizer import BYTE, NORMAL, SPACE, Pieces, pieces_of, tokenizer_of
from kyara_utils.runs.errors import KyaraError

ALWAYS = ("user", "model", "assistant", "system", "\n")  # of the chat template
TOGETHER = 1 << 18  # characters that are tokenised at once
RESERVED = re.compile(r"<unused\d+>|\[PAD\d+\]")  # the second: rows of a table that no token uses
SCRIPTS = ("zh-Hant", "zh")
HAN = re.compile("[\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
ALLOWED = re.compile(
    "[ -\u024f\u0370-\u03ff\u1e00-\u1eff\u2000-\u2bff"  # Latin, Greek, punctuation, arrows, mathematics
    "\u3000-\u312f\u31a0-\u31bf\u31f0-\u33ff\ufe10-\ufe4f\uff01-\uffef"  # CJK punctuation, kana, bopomofo
    "\U0001d400-\U0001d7ff\U0001f300-\U0001faff"  # mathematical letters, emoji
    + HAN.pattern[1:]
)


class Script:
    """Which characters and pieces a vocabulary may be filled with.

    `zh` allows every Han character. `zh-Hant` refuses a character as Simplified-only when OpenCC's s2t and
    s2tw both change it, t2s leaves it, no given text uses it, and OpenCC leaves it in place in no piece of
    the vocabulary (里 stays in 公里, 后 in 皇后: both are allowed). It also refuses a piece that s2t and s2tw
    both change as a whole (以后, 面包), 臺 and 台 counting as one. Kana, Latin, punctuation are not touched.
    """

    def __init__(self, script: str, pieces: Pieces, used: Iterable[str]) -> None:
        """`used` are texts, or the characters of texts."""
        if script not in SCRIPTS:
            raise KyaraError(f"unknown script {script!r}; use one of {', '.join(SCRIPTS)}")
        self.pieces, self.traditional = list(pieces.ranked), script == "zh-Hant"
        self.used = set().union(*used)

    def allows(self, piece: str) -> bool:
        """Say whether a piece may be filled in."""
        body = piece.replace(SPACE, "")
        if not all(map(ALLOWED.fullmatch, body)):
            return False
        return not self.traditional or (piece not in self.simplified and self.characters.isdisjoint(body))

    @cached_property
    def changed(self) -> dict[str, tuple[str, str]]:
        """Pieces with Han characters that both s2t and s2tw change, with what each makes of them."""
        han = [piece for piece in self.pieces if HAN.search(piece)]
        rows = zip(han, _convert("s2t", han), _convert("s2tw", han), strict=True)
        return {piece: (general, taiwan) for piece, general, taiwan in rows if piece not in (general, taiwan)}

    @cached_property
    def simplified(self) -> set[str]:
        """Pieces of several characters that are written with Simplified characters."""
        several = {piece: both for piece, both in self.changed.items() if len(piece) > 1}
        return {p for p, both in several.items() if p not in [text.replace("臺", "台") for text in both]}

    @cached_property
    def characters(self) -> set[str]:
        """Single characters that only Simplified text uses."""
        single = sorted(piece for piece in self.changed if len(piece) == 1)
        suspects = {c for c, back in zip(single, _convert("t2s", single), strict=True) if c == back}
        han = [piece for piece in self.pieces if len(piece) > 1 and not suspects.isdisjoint(piece)]
        same_length = [p for p in zip(han, _convert("s2t", han), strict=True) if len(p[0]) == len(p[1])]
        stays = {a for old, new in same_length for a, b in zip(old, new, strict=True) if a == b}
        return suspects - stays - self.used


def _convert(config: str, texts: list[str]) -> list[str]:
    import opencc

    return opencc.OpenCC(config).convert("\n".join(texts)).split("\n") if texts else []


def kept_ids(gguf: Path, texts: Iterable[str], size: int = 20480, script: str = "zh-Hant") -> list[int]:
    """Choose `size` token ids of a GGUF, ascending, that tokenise `texts` exactly as its whole vocabulary does.

    Raises `KyaraError` when the texts alone need more than `size`; see `choose_ids`.
    """
    return choose_ids(pieces_of(gguf), Used(tokenizer_of(gguf), texts), size, script)


class Used:
    """The tokens and characters of texts that come one after the other; of a stream of any length, two sets stay."""

    def __init__(self, tokenizer, texts: Iterable[str] = ()) -> None:
        """`tokenizer` is a `tokenizers.Tokenizer`."""
        self._tokenizer, self._waiting, self._size = tokenizer, list(ALWAYS), 0
        self._ids: set[int] = set()
        self.characters: set[str] = set()
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Count a text in."""
        self.characters.update(text)
        self._waiting.append(text)
        self._size += len(text)
        if self._size > TOGETHER:
            self._encode()

    @property
    def ids(self) -> set[int]:
        """The ids so far."""
        self._encode()
        return self._ids

    def _encode(self) -> None:
        for row in self._tokenizer.encode_batch_fast(self._waiting, add_special_tokens=False):
            self._ids.update(row.ids)
        self._waiting, self._size = [], 0


def choose_ids(pieces: Pieces, used: Used, size: int, script: str) -> list[int]:
    """Choose `size` ids of a vocabulary.

    Kept first: bytes, special and user-defined tokens without the reserved `<unusedN>`, the tokens of the
    texts and of the chat template, all pieces on their merge paths, and allowed single characters. The rest is
    filled by id, which is by frequency, with allowed pieces that can still be merged.
    """
    allowed = Script(script, pieces, used.characters)
    kept = _must_keep(pieces, used.ids)
    if len(kept) > size:
        raise KyaraError(f"the texts need {len(kept)} tokens, size is {size}; raise size or give fewer texts")
    order = sorted(range(len(pieces.texts)), key=lambda i: (len(pieces.texts[i]) > 1, i))
    for number in order:
        if len(kept) == size:
            break
        piece = pieces.texts[number]
        if pieces.kinds[number] == NORMAL and number not in kept and allowed.allows(piece):
            _keep_if_reachable(pieces, piece, kept)
    return sorted(kept)


def _must_keep(pieces: Pieces, used: set[int]) -> set[int]:
    rows = enumerate(zip(pieces.texts, pieces.kinds, strict=True))
    kept = {i for i, (text, kind) in rows if kind != NORMAL and not RESERVED.fullmatch(text)}
    kept |= used | {i for i, kind in enumerate(pieces.kinds) if kind == BYTE} | set(pieces.special.values())
    for number in used:
        if pieces.kinds[number] == NORMAL:
            piece = pieces.texts[number]
            path = (*piece, *pieces.merge_path(piece))
            kept.update(pieces.ids[part] for part in path if part in pieces.ids)
    return kept


def _keep_if_reachable(pieces: Pieces, piece: str, kept: set[int]) -> None:
    """Add a piece whose merge path ends in itself and is kept already, so that no filler drags others in."""
    path = pieces.merge_path(piece)
    parts = (*piece, *path[:-1])
    if len(piece) == 1 or (path[-1:] == [piece] and all(pieces.ids.get(part) in kept for part in parts)):
        kept.add(pieces.ids[piece])
