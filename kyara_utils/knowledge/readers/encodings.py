"""Open text files of whatever age: gzip or bzip2, and UTF-8, UTF-16, Big5/CP950, GB18030 or a neighbour by evidence.

Big5 and GB18030 accept each other's bytes and give nonsense without an error. Wrongly decoded text shows itself by
rare characters: of the characters of real Chinese text 95 % and more are among the frequent ones of either
standard, of a wrong decoding about half.
"""

import bz2
import gzip
import io
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TextIO

from kyara_utils.knowledge.readers.documents import SkipDocument

COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open}
BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
LEGACY = ("cp950", "gb18030", "utf-16-le", "utf-16-be")
HEAD = 1 << 20  # bytes by which an encoding is judged
SAMPLE = 1 << 16  # of them, from the first byte that is not ASCII
KOREAN, JAPANESE = "euc_kr", ("euc_jp", "cp932")
HANGUL, KANA = re.compile(r"[가-힣]"), re.compile(r"[ぁ-ゖァ-ヺ]")
HANGUL_SHARE = 0.9  # of the letters beyond ASCII: GB 2312 read as Korean gives two thirds
KANA_SHARE = 0.25  # the same of Japanese prose, of which it is half
BAD_SHARE = 0.01  # broken characters among the wide ones of a UTF-8 text that a few bytes have been damaged in
FEWEST_WIDE = 10
FREQUENT_SHARE = 0.75  # frequent characters among the non-ASCII ones: less is no text in that encoding
DAMAGED = (EOFError, OSError, zlib.error)
HIGH = re.compile(rb"[\x80-\xff]")
WIDE = re.compile(r"[\u2e80-\ufffc]")
CONTROL = re.compile(r"[\0-\x08\x0b\x0e-\x1f]")


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, unpacked on the fly if its name ends in .gz or .bz2."""
    return COMPRESSED.get(path.suffix.lower(), open)(path, "rb")


def open_text(path: Path) -> TextIO:
    """Open a text file in its own encoding; bytes that do not fit it become lone surrogates (PEP 383).

    Raises `SkipDocument` ("empty", "binary" or "encoding") and whatever of `DAMAGED` reading it raises.
    """
    with open_bytes(path) as file:
        head = _head(file)
    encoding = detect(head)
    check_text(head.decode(encoding, "replace")[:SAMPLE])
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, errors="surrogateescape")


def _head(file: BinaryIO) -> bytes:
    """The first `HEAD` bytes, or what there is before a packed file breaks off."""
    head = b""
    try:
        while len(head) < HEAD and (block := file.read1(HEAD - len(head))):
            head += block
    except DAMAGED:
        if not head:
            raise
    return head


def decode(data: bytes) -> str:
    """Decode a whole text, with line ends as `\\n`. Raises `SkipDocument` ("empty", "binary" or "encoding")."""
    encoding = detect(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SkipDocument("encoding", f"not valid {encoding} at byte {error.start}") from error
    check_text(text[:SAMPLE])
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_text(sample: str) -> None:
    """Raise `SkipDocument` where control characters show that a file is no text."""
    controls = len(CONTROL.findall(sample))
    if controls > len(sample) // 100:
        raise SkipDocument("binary", f"{controls} control characters in the first {len(sample)}")


def detect(data: bytes) -> str:
    """Name the encoding of `data`, which may be cut off anywhere. Raises `SkipDocument`."""
    if not data.strip():
        raise SkipDocument("empty", "")
    for mark, encoding in BOMS.items():
        if data.startswith(mark):
            return encoding
    if data.count(0) <= len(data) // 20 and (_decoded(data, "utf-8") is not None or _nearly_utf8(data)):
        return "utf-8"
    high = HIGH.search(data)
    start = high.start() & ~1 if high and not data.count(0, 0, high.start()) else 0
    sample = data[start : start + SAMPLE]
    if neighbour := _neighbour(sample):
        return neighbour
    share, encoding = max((_frequent_share(sample, name), name) for name in LEGACY)
    if share < FREQUENT_SHARE:
        raise SkipDocument("binary" if 0 in data[:SAMPLE] else "encoding", f"none of utf-8, {', '.join(LEGACY)}")
    return encoding


def _nearly_utf8(data: bytes) -> bool:
    """A few damaged bytes must cost their own rows, not turn the whole file into nonsense of another encoding."""
    text = data[:HEAD].decode("utf-8", "replace")
    return text.count("\ufffd") <= BAD_SHARE * len(WIDE.findall(text))


def _neighbour(sample: bytes) -> str:
    """Korean or Japanese, whose bytes GB18030 reads as frequent Chinese characters in an order that means nothing."""
    for encoding, letter, least in ((KOREAN, HANGUL, HANGUL_SHARE), *((name, KANA, KANA_SHARE) for name in JAPANESE)):
        text = _decoded(sample, encoding) or ""
        wide = sum(character.isalpha() and character > "\x7f" for character in text)
        if wide >= FEWEST_WIDE and len(letter.findall(text)) >= least * wide:
            return encoding
    return ""


def _decoded(data: bytes, encoding: str) -> str | None:
    """Decode strictly but for a character cut off at the end."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(data) - 4 or not error.start:
            return None
        return data[: error.start].decode(encoding)


def _frequent_share(sample: bytes, encoding: str) -> float:
    """Share of frequent characters among those beyond ASCII; of a text in ASCII alone, of printable ones."""
    text = _decoded(sample, encoding)
    if not text or (encoding.startswith("utf-16") and len(sample) < 4):
        return 0.0
    wide = [c for c in text if c > "\x7f"]
    if not wide:
        return 1 - len(CONTROL.findall(text)) / len(text)
    return sum(c in _frequent() for c in wide) / len(wide)


@lru_cache(maxsize=1)
def _frequent() -> frozenset[str]:
    """Level 1 of Big5 and of GB 2312, and the punctuation and full-width forms of both."""
    trails = [*range(0x40, 0x7F), *range(0xA1, 0xFF)]
    big5 = bytes(byte for lead in range(0xA4, 0xC7) for trail in trails for byte in (lead, trail))
    gb = bytes(byte for lead in range(0xB0, 0xD8) for trail in range(0xA1, 0xFF) for byte in (lead, trail))
    signs = [chr(code) for ends in ((0x3000, 0x3020), (0xFF01, 0xFF5F), (0x2010, 0x2030)) for code in range(*ends)]
    return frozenset(big5.decode("big5", "ignore") + gb.decode("gb2312", "ignore") + "".join(signs) + "·×—")
