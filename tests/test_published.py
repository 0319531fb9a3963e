"""Published prompts: taken from the given folder or downloaded once, verified either way, one line when offline."""

from dataclasses import replace

import pytest

from kyara_utils.evaluation import published
from kyara_utils.runs.errors import KyaraError


def test_the_given_folder_is_used_before_any_download(tmp_path, monkeypatch):
    file = replace(published.REGISTRY["arena_prompt"], sha256="", size=3)
    monkeypatch.setitem(published.REGISTRY, "arena_prompt", file)
    monkeypatch.setenv(published.DATA_VARIABLE, str(tmp_path / "given"))
    monkeypatch.setattr(published.urllib.request, "urlopen", lambda *a, **k: pytest.fail("downloaded"))
    path = tmp_path / "given" / "lmarena+arena-hard-auto" / "config" / "judge_config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("a:1")
    assert published.fetch("arena_prompt", tmp_path) == path
    path.write_text("longer")
    with pytest.raises(KyaraError, match="6 bytes, not 3"):
        published.fetch("arena_prompt", tmp_path)


def test_a_download_is_verified_before_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv(published.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(published, "HOST", tmp_path.as_uri())
    file = published.REGISTRY["arena_prompt"]
    source = tmp_path / file.repository / file.commit / file.path
    source.parent.mkdir(parents=True)
    source.write_text("not the prompt")
    with pytest.raises(KyaraError, match="SHA-256"):
        published.fetch("arena_prompt", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setitem(published.REGISTRY, "arena_prompt", replace(file, sha256="", size=14))
    assert published.fetch("arena_prompt", tmp_path / "cache").read_text() == "not the prompt"


def test_offline_is_one_line_with_the_place_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.delenv(published.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(published, "HOST", (tmp_path / "nothing").as_uri())
    with pytest.raises(KyaraError, match=r"KYARA_EVAL_DATA/THUDM\+AlignBench/judge.py") as caught:
        published.fetch("alignbench_judge", tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(KyaraError, match="no published file"):
        published.fetch("mmlu", tmp_path)


def test_every_registered_file_is_pinned_by_commit_and_its_place_is_relative():
    for name, file in published.REGISTRY.items():
        assert len(file.commit) >= 8 and set(file.commit) <= set("0123456789abcdef"), name
        assert len(file.sha256) in (0, 64) and ".." not in file.place.parts and not file.place.is_absolute()
