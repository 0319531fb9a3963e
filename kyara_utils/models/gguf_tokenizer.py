"""The tokenizer inside a Gemma GGUF, rebuilt from its own pieces and scores.

transformers 5.17 reads this tokenizer wrongly (a Unigram model, no `<bos>`), so it is built here the way its
SentencePiece converters build one: every split of a piece into two known pieces is a merge, ordered by the
piece's score. The result gives llama.cpp's ids, which tests/test_vocabulary.py checks.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from kyara_utils.models.gguf_file import Gguf, read_gguf
from kyara_utils.runs.env import cache_dir
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replace_text, sha256_of

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "▁"
VERSION = 1  # part of the cache key: raise it when the conversion changes


@dataclass(frozen=True)
class Pieces:
    """The vocabulary of a GGUF: text, merge score and type of each id."""

    texts: list[str]
    scores: list[float]
    kinds: list[int]
    special: dict[str, int] = field(default_factory=dict)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {text: number for number, text in enumerate(self.texts)}

    @cached_property
    def ranked(self) -> dict[str, float]:
        """Scores of the pieces that merging may make or use."""
        return {t: s for t, s, k in zip(self.texts, self.scores, self.kinds, strict=True) if k == NORMAL}

    def merge_path(self, piece: str) -> list[str]:
        """Return every piece made while `piece` is merged up from characters, in order.

        The best-scored pair merges first, the leftmost of equals, as in llama.cpp's `llm_tokenizer_spm`. A
        final token may be taken out of its context: no merge crossed its borders, or it would not be final.
        """
        symbols, made = list(piece), []
        while len(symbols) > 1:
            pairs = map("".join, pairwise(symbols))
            score, at = max((self.ranked.get(pair, float("-inf")), -i) for i, pair in enumerate(pairs))
            if score == float("-inf"):
                break
            symbols[-at : 2 - at] = [symbols[-at] + symbols[1 - at]]
            made.append(symbols[-at])
        return made


def pieces_of(gguf: Path | Gguf) -> Pieces:
    """Read the vocabulary of a GGUF with a SentencePiece tokenizer (`tokenizer.ggml.model` = llama)."""
    source = gguf if isinstance(gguf, Gguf) else read_gguf(gguf)
    kind = source.need("tokenizer.ggml.model")
    if kind != "llama":
        raise KyaraError(f"{source.path} has a {kind} tokenizer; use a Gemma GGUF")
    names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    special = {short: source.need(f"tokenizer.ggml.{name}_token_id") for name, short in names.items()}
    return Pieces(
        source.need("tokenizer.ggml.tokens"),
        source.need("tokenizer.ggml.scores"),
        source.need("tokenizer.ggml.token_type"),
        special,
    )


def tokenizer_of(gguf: Path):
    """Return the `tokenizers.Tokenizer` of a Gemma GGUF; `encode` puts one `<bos>` first.

    The JSON is kept in the cache folder under the GGUF's SHA-256, since building it takes seconds.
    """
    from tokenizers import Tokenizer

    name = f"{sha256_of(gguf)[:24]}-v{VERSION}.json"
    kept = cache_dir() / "tokenizers" / name
    if kept.is_file():
        try:
            return Tokenizer.from_file(str(kept))
        except Exception:  # noqa: BLE001  tokenizers raises bare Exception for a damaged file: build it again
            kept.unlink(missing_ok=True)
    tokenizer = build_tokenizer(pieces_of(gguf))
    replace_text(kept, tokenizer.to_str())
    return tokenizer


def build_tokenizer(pieces: Pieces):
    """Build the tokenizer from a vocabulary (see the module's docstring)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    unknown, bos = pieces.texts[pieces.special["unk"]], pieces.texts[pieces.special["bos"]]
    model = models.BPE(vocab=pieces.ids, merges=merges_of(pieces), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    for kind in (CONTROL, USER):
        texts = [t for t, k in zip(pieces.texts, pieces.kinds, strict=True) if k == kind]
        tokenizer.add_tokens([AddedToken(t, normalized=False, special=kind == CONTROL) for t in texts])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, pieces.special["bos"])]
    )
    return tokenizer


def merges_of(pieces: Pieces) -> list[tuple[str, str]]:
    """Return every (left, right) whose parts and whole are normal pieces, best score first."""
    ranked, found = pieces.ranked, []
    for whole, score in ranked.items():
        for at in range(1, len(whole)):
            left, right = whole[:at], whole[at:]
            if left in ranked and right in ranked:
                found.append((-score, -len(left), left, right))
    found.sort(key=lambda merge: merge[:2])
    return [(left, right) for _, _, left, right in found]
