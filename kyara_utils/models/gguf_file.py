"""Read and write GGUF files fast enough for a 262,144-token vocabulary.

`gguf.GGUFReader` makes one NumPy view per token and took 22 s on the embedded Gemma; this reader takes under
a second. It covers what the embedded models use (little-endian, version 2 or 3, flat arrays). The layout is
llama.cpp's: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.files import replacing

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
DAMAGED = "{path} is not a readable GGUF file ({why}); delete it and run the step that makes it again"


@dataclass(frozen=True)
class Field:
    """One metadata value with its GGUF type; `item` is the type of an array's items."""

    kind: int
    value: Any
    item: int | None = None


@dataclass(frozen=True)
class Tensor:
    """One tensor: GGML type number and the stored bytes as rows, `[rows…, bytes of a row]`."""

    name: str
    kind: int
    rows: np.ndarray


@dataclass(frozen=True)
class Gguf:
    """A whole file: metadata by key, tensors in file order (memory-mapped)."""

    path: Path
    fields: dict[str, Field]
    tensors: list[Tensor]

    def get(self, key: str, default: Any = None) -> Any:
        """Return a metadata value, or `default` when the key is absent."""
        return self.fields[key].value if key in self.fields else default

    def need(self, key: str) -> Any:
        """Return a metadata value, or raise `KyaraError` naming the missing key."""
        if key not in self.fields:
            raise KyaraError(f"{self.path} has no {key}; use a GGUF with an embedded SentencePiece tokenizer")
        return self.fields[key].value


class _Cursor:
    """A position in the header bytes."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def numbers(self, code: str, count: int) -> tuple:
        layout = f"<{count}{code}"
        self.at += (size := struct.calcsize(layout))
        return struct.unpack_from(layout, self.data, self.at - size)

    def text(self) -> str:
        (size,) = self.numbers("Q", 1)
        self.at += size
        return str(self.data[self.at - size : self.at], "utf-8")

    def field(self) -> Field:
        (kind,) = self.numbers("I", 1)
        if kind == STRING:
            return Field(kind, self.text())
        if kind != ARRAY:
            return Field(kind, self.numbers(SCALARS[kind], 1)[0])
        item, count = self.numbers("I", 1)[0], self.numbers("Q", 1)[0]
        if item == STRING:
            return Field(kind, [self.text() for _ in range(count)], item)
        return Field(kind, list(self.numbers(SCALARS[item], count)), item)

    def tensor(self) -> tuple[str, list[int], int, int]:
        name, dims = self.text(), self.numbers("I", 1)[0]
        shape = list(self.numbers("Q", dims))
        return name, shape, self.numbers("I", 1)[0], self.numbers("Q", 1)[0]


def read_gguf(path: Path) -> Gguf:
    """Parse metadata and map the tensors; a damaged or foreign file is a `KyaraError`."""
    try:
        return _parse(Path(path))
    except (OSError, struct.error, KeyError, ValueError) as error:
        raise KyaraError(DAMAGED.format(path=path, why=error)) from error


def _parse(path: Path) -> Gguf:
    data = np.memmap(path, mode="r")
    cursor = _Cursor(memoryview(data))
    magic, version = cursor.numbers("I", 2)
    if magic != 0x46554747 or version not in (2, 3):
        raise ValueError(f"magic {magic:#x}, version {version}")
    tensors, fields = cursor.numbers("Q", 2)
    metadata = {cursor.text(): cursor.field() for _ in range(fields)}
    infos = [cursor.tensor() for _ in range(tensors)]
    alignment = metadata["general.alignment"].value if "general.alignment" in metadata else 32
    start = -(-cursor.at // alignment) * alignment
    return Gguf(path, metadata, [_tensor(data, start, *info) for info in infos])


def _tensor(data: np.ndarray, start: int, name: str, shape: list[int], kind: int, offset: int) -> Tensor:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    row = shape[0] // block * size
    rows = [*reversed(shape[1:]), row]
    stored = data[start + offset : start + offset + int(np.prod(rows))]
    return Tensor(name, kind, stored.reshape(rows))


def write_gguf(path: Path, fields: dict[str, Field], tensors: list[Tensor]) -> Path:
    """Write a GGUF under a temporary name, then rename it; a failed write leaves nothing behind."""
    with replacing(path) as temporary:
        _write(temporary, fields, tensors)
    return Path(path)


def _write(path: Path, fields: dict[str, Field], tensors: list[Tensor]) -> None:
    from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

    writer = GGUFWriter(path, fields["general.architecture"].value)
    for key, field in fields.items():
        if key != "general.architecture":
            item = None if field.item is None else GGUFValueType(field.item)
            writer.add_key_value(key, field.value, GGUFValueType(field.kind), item)
    for tensor in tensors:
        kind = GGMLQuantizationType(tensor.kind)
        plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(kind)
        rows = np.ascontiguousarray(tensor.rows)
        writer.add_tensor(tensor.name, rows.view(plain) if plain else rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
