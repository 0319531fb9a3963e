"""Vocabularies cut and put back: folders of Gemma 2 and 3 and the packaged GGUF, by the tool that users call."""

import json
import shutil
from pathlib import Path

import pytest
import test_training as shared

from kyara_utils.models import bases, loading, packages, trim, vocabulary_trimming
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.schemas import guessed_schema
from kyara_utils.runs.tables import write_rows

cache, tiny_gguf, base, gemma2, rows = (
    getattr(shared, name) for name in ("cache", "tiny_gguf", "base", "gemma2", "rows")
)
CORPUS = Path(packages.__file__).parents[1] / "data" / "corpus"
TEXTS = ["user says abc", "q1?"]
SIZE = 320


def logits(folder: Path, text: str):
    import torch

    tokens = torch.tensor([loading.load_tokenizer(folder)(text)["input_ids"]])
    with torch.no_grad():
        return tokens[0].tolist(), loading.load_model(folder)(tokens).logits[0]


@pytest.fixture(params=["base", "gemma2"])
def whole(request):
    return request.getfixturevalue(request.param)


def test_a_cut_folder_reads_and_scores_as_the_whole_one(whole, tmp_path):
    """A row one place off, a merge lost or a stop token not renumbered gives fluent nonsense or no end."""
    mapping = vocabulary_trimming.trim_vocabulary(whole, tmp_path / "small", TEXTS, SIZE)
    ids = mapping["ids"]
    assert len(ids) == SIZE < mapping["full_size"] and mapping["texts"] == 2
    assert vocabulary_trimming.read_mapping(tmp_path / "small") == mapping
    (long_ids, long), (short_ids, short) = (logits(folder, TEXTS[0]) for folder in (whole, tmp_path / "small"))
    assert [ids[number] for number in short_ids] == long_ids and short.shape[1] == SIZE
    assert (long[:, ids] - short).abs().max() < 1e-5
    tokenizer = loading.load_tokenizer(tmp_path / "small")
    assert tokenizer.decode(tokenizer("zebra ü")["input_ids"], skip_special_tokens=True) == "zebra ü"
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    assert (config["vocab_size"], config["bos_token_id"]) == (SIZE, ids.index(2))


def test_restoring_gives_the_same_bytes_and_keeps_what_was_trained(whole, tmp_path):
    """A mapping that cannot be undone ties a trained model to one corpus for ever."""
    from safetensors.torch import load_file, save_file

    vocabulary_trimming.trim_vocabulary(whole, tmp_path / "small", TEXTS, SIZE)
    back = vocabulary_trimming.restore_vocabulary(tmp_path / "small", whole, tmp_path / "back")
    assert (back / "tokenizer.json").read_bytes() == (whole / "tokenizer.json").read_bytes()
    before, after = (load_file(folder / "model.safetensors") for folder in (whole, back))
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)
    path = tmp_path / "small" / "model.safetensors"
    trained = load_file(path)
    trained["model.embed_tokens.weight"] += 1
    save_file(trained, path, metadata={"format": "pt"})
    ids = vocabulary_trimming.read_mapping(tmp_path / "small")["ids"]
    moved = load_file(vocabulary_trimming.restore_vocabulary(tmp_path / "small", whole, back) / "model.safetensors")
    difference = (moved["model.embed_tokens.weight"] - before["model.embed_tokens.weight"]).mean(dim=1)
    assert {n for n, d in enumerate(difference.tolist()) if abs(d - 1) < 1e-5} == set(ids)
    assert {n for n, d in enumerate(difference.tolist()) if d == 0} == set(range(len(difference))) - set(ids)


def test_shards_stay_shards_and_an_untied_head_is_cut_too(gemma2, tmp_path):
    """Models of the Hub come in several files; a head of the old size would not load."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(gemma2, tie_word_embeddings=False)
    model.save_pretrained(tmp_path / "untied", max_shard_size="100KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(gemma2 / name, tmp_path / "untied" / name)
    mapping = vocabulary_trimming.trim_vocabulary(tmp_path / "untied", tmp_path / "small", TEXTS, SIZE)
    assert len(list((tmp_path / "small").glob("*.safetensors"))) > 1
    (_, long), (_, short) = (logits(bases.check_folder(tmp_path / name), TEXTS[0]) for name in ("untied", "small"))
    assert (long[:, mapping["ids"]] - short).abs().max() < 1e-5
    back = vocabulary_trimming.restore_vocabulary(tmp_path / "small", tmp_path / "untied", tmp_path / "back")
    assert logits(back, TEXTS[0])[1].equal(long)


def test_trained_folders_carry_their_mapping(base, rows, tmp_path):
    """Without it nobody knows, after three stages, which tokens a model has."""
    vocabulary_trimming.trim_vocabulary(base, tmp_path / "small", [json.dumps(rows)], SIZE)
    call = shared.SFT | {"method": "lora", "epochs": 1}
    shared.train_sft(tmp_path / "small", rows, [], tmp_path / "sft", **call, seed=1, progress=False)
    back = vocabulary_trimming.restore_vocabulary(tmp_path / "sft", base, tmp_path / "back")
    assert (back / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("size", "change", "message"),
    [
        (100, {}, "raise size or give fewer texts"),
        (SIZE, {"model_type": "qwen3"}, "no text model of Gemma 2 or 3"),
        (SIZE, {"eos_token_id": [1, 420]}, "eos_token_id 420 is not among the kept tokens"),
    ],
)
def test_what_cannot_be_cut_leaves_nothing(gemma2, tmp_path, size, change, message):
    """Half a model that loads is worse than none."""
    folder = shutil.copytree(gemma2, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(KyaraError, match=message):
        vocabulary_trimming.trim_vocabulary(folder, tmp_path / "small", TEXTS, size)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_text_read_otherwise_is_an_error(base, tmp_path, monkeypatch):
    """Exactness is the promise: it is checked on each text, not trusted."""
    choose = vocabulary_trimming.choose_ids
    lost = loading.load_tokenizer(base).get_vocab()["user"]
    monkeypatch.setattr(vocabulary_trimming, "choose_ids", lambda *given: [i for i in choose(*given) if i != lost])
    with pytest.raises(KyaraError, match="reads a text otherwise from its token 1 on: 'user says abc'"):
        vocabulary_trimming.trim_vocabulary(base, tmp_path / "small", TEXTS, SIZE)
    assert not (tmp_path / "small").exists()


def test_restore_refuses_a_stranger(base, gemma2, tmp_path):
    """Rows put into another model's table would load."""
    vocabulary_trimming.trim_vocabulary(base, tmp_path / "small", TEXTS, SIZE)
    with pytest.raises(KyaraError, match="do not belong together"):
        vocabulary_trimming.restore_vocabulary(tmp_path / "small", gemma2, tmp_path / "back")
    (tmp_path / "small" / "vocabulary.json").unlink()
    with pytest.raises(KyaraError, match="has no vocabulary.json; give --mapping"):
        vocabulary_trimming.restore_vocabulary(tmp_path / "small", base, tmp_path / "back")


def test_the_command_reads_corpora_and_rows(base, rows, tmp_path, capsys):
    """Users give folders and tables, not lists of strings."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.md").write_text("user", encoding="utf-8")
    write_rows(tmp_path / "rows.parquet", rows, guessed_schema(rows))
    given = [str(tmp_path / "corpus"), str(tmp_path / "rows.parquet")]
    trim.main(["cut", str(base), str(tmp_path / "small"), "--size", str(SIZE), "--texts", *given])
    assert "361 → 320 tokens" in (said := capsys.readouterr().out) and "tokenised alike" in said
    trim.main(["restore", str(tmp_path / "small"), str(tmp_path / "back"), "--source", str(base)])
    assert (tmp_path / "back" / "config.json").is_file()
    with pytest.raises(KyaraError, match="--texts: .*nothing.pdf is no folder and no .md, .txt"):
        trim.read_texts([tmp_path / "nothing.pdf"])


@shared.needs_gemma
def test_the_packaged_model_is_converted_once_and_cut_alike_as_file_and_folder(tmp_path, monkeypatch):
    """Two ways to one model that differ by a row would train two students."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*/*.md"))[:20]]
    gguf = bases.find_base(bases.PACKAGE)
    whole = bases.as_folder(gguf)
    vocabulary_trimming.trim_vocabulary(gguf, tmp_path / "small.gguf", texts, 16384)
    mapping = vocabulary_trimming.trim_vocabulary(whole, tmp_path / "small", texts, 16384)
    assert json.loads((tmp_path / "small.vocabulary.json").read_text())["ids"] == mapping["ids"]
    folder, made = bases.base_model_dir(bases.PACKAGE, tmp_path / "base", mapping["ids"])
    assert made and (folder / "model.safetensors").read_bytes() == (tmp_path / "small/model.safetensors").read_bytes()
    assert vocabulary_trimming.read_mapping(folder)["full_size"] == mapping["full_size"] == 262_144
    with monkeypatch.context() as patch:
        patch.setattr(bases, "gguf_to_transformers", lambda *given: pytest.fail("converted again"))
        assert bases.base_model_dir(bases.PACKAGE, tmp_path / "again", mapping["ids"])[0].resolve() == folder.resolve()
    bases.check_golden(whole)
    bases.check_golden(folder, mapping["ids"])
    with pytest.raises(KyaraError, match=r"reads '<start_of_turn>user"):
        bases.check_golden(folder)  # a trimmed vocabulary taken for the whole one
    (whole / "model.safetensors").write_bytes(b"damaged")
    assert len((bases.as_folder(gguf) / "model.safetensors").read_bytes()) > 1e9
