"""Documents set aside for step 08: the share, the split by path, nothing lost, and a table only when all are read."""

import pytest

from kyara_utils.knowledge.readers.documents import Document
from kyara_utils.knowledge.readers.unseen import is_unseen, set_aside
from kyara_utils.runs import KyaraError, read_rows


def documents(number: int, text: str = "text") -> list[Document]:
    return [Document(f"doc_{n}", f"title {n}", f"{text} {n}", f"topic/{n}.md") for n in range(number)]


def test_the_share_is_near_what_was_asked_and_none_or_all_at_the_ends():
    paths = [item.path for item in documents(2000)]
    assert 0.17 < sum(is_unseen(path, 0.2) for path in paths) / 2000 < 0.23
    assert not any(is_unseen(path, 0.0) for path in paths) and all(is_unseen(path, 1.0) for path in paths)


def test_the_parts_of_a_long_document_stay_together():
    for path in (item.path for item in documents(50)):
        assert {is_unseen(f"{path}{part}", 0.5) for part in ("#part2", "#part12")} == {is_unseen(path, 0.5)}


def test_every_item_is_either_passed_on_or_written_and_the_text_does_not_decide(tmp_path):
    reject, seen = {"id": "r", "rule": "too_short"}, []
    stays = list(set_aside([*documents(50), reject], 0.2, tmp_path / "unseen.parquet", seen.append))
    aside = read_rows(tmp_path / "unseen.parquet")
    assert reject in stays and len(stays) + len(aside) == 51 and 0 < len(aside) < 25
    assert [row["text"] for row in aside] == seen
    list(set_aside(documents(50, "revised"), 0.2, tmp_path / "again.parquet"))
    assert [row["path"] for row in read_rows(tmp_path / "again.parquet")] == [row["path"] for row in aside]


def test_no_table_is_left_when_reading_fails(tmp_path):
    def failing():
        yield from documents(5)
        raise OSError("the disk is gone")

    with pytest.raises(KyaraError):
        list(set_aside(failing(), 0.5, tmp_path / "unseen.parquet"))
    assert not (tmp_path / "unseen.parquet").exists()
