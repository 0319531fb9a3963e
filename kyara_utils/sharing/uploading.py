"""Publish repositories on the Hugging Face Hub through its own client: created, committed once, and looked at again.

One commit a repository: what is already there under the same hash is not sent again, so a broken upload goes on where
it stopped when the same command is run again. Nothing that the repository holds beside it is deleted.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kyara_utils.runs.errors import KyaraError
from kyara_utils.sharing.repositories import UNKNOWN, Repository

log = logging.getLogger(__name__)
UNITS = ("B", "kB", "MB", "GB", "TB")


def plan_lines(repositories: Sequence[Repository], public: bool) -> Iterator[str]:
    """What would go where, a line a file, and what to know before: for people."""
    for one in repositories:
        seen = "public" if public else "private"
        yield f"{one.kind} {one.name} ({seen} where it is new, licence {one.licence}): {readable_size(one.size)}"
        yield from (f"  {readable_size(path.stat().st_size):>9}  {name}" for name, path in one.files.items())
        yield from (f"  {note}" for note in one.notes)


def readable_size(count: float) -> str:
    """Bytes with three significant digits, e.g. `454 MB`."""
    unit = 0
    while count >= 999.5 and unit + 1 < len(UNITS):
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {UNITS[unit]}"


def upload(repositories: Sequence[Repository], public: bool) -> list[str]:
    """Create each repository, commit its files, check that the Hub lists them with their sizes; return addresses.

    Needs a token with the right to write (`hf auth login`, or `HF_TOKEN`). A repository that exists keeps its
    visibility. Raises `KyaraError` where a licence is unknown, the Hub refuses, or a file did not arrive.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    for one in repositories:
        if one.licence == UNKNOWN:
            option = "--licence" if one.kind == "dataset" else "--model-licence"
            raise KyaraError(f"the licence of {one.kind} {one.name} is not known here; give {option}, e.g. cc-by-4.0")
    api, addresses = HfApi(), []
    with _refusals():
        log.info(f"publishing as {api.whoami()['name']}")
    for one in repositories:
        files = [CommitOperationAdd(name, path) for name, path in one.files.items()]
        message = f"{len(files)} files of a Kyara run"
        with _refusals():
            address = api.create_repo(one.name, repo_type=one.hub_type, private=not public, exist_ok=True)
            api.create_commit(one.name, files, commit_message=message, repo_type=one.hub_type)
            listed = api.list_repo_tree(one.name, recursive=True, repo_type=one.hub_type)
            arrived = {item.path: item.size for item in listed if hasattr(item, "size")}
        _check_arrival(one, arrived)
        addresses.append(str(address))
    return addresses


def _check_arrival(one: Repository, arrived: dict[str, int]) -> None:
    sizes = {name: path.stat().st_size for name, path in one.files.items()}
    if lost := [name for name, size in sizes.items() if arrived.get(name) != size]:
        raise KyaraError(f"{one.name}: {len(lost)} of {len(sizes)} files are not there whole ({lost[0]}); push again")
    if other := arrived.keys() - sizes.keys() - {".gitattributes"}:
        log.info(f"{one.name} also holds {len(other)} other files, left as they are")


@contextmanager
def _refusals() -> Iterator[None]:
    """What the Hub or the network refuses, as one line with the way out."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise KyaraError("no token of the Hub; run `hf auth login`, or set HF_TOKEN to one that may write") from error
    except HfHubHTTPError as error:
        why = " ".join(str(error).split())[:200]
        raise KyaraError(f"the Hub refuses: {why}; give a token that may write there, or another --to") from error
    except (httpx.HTTPError, OSError) as error:
        raise KyaraError(f"the Hub cannot be reached ({error}); try again: what arrived is not sent twice") from error
    except ValueError as error:  # its client's word for a card that it cannot read
        raise KyaraError(f"the Hub's client refuses: {' '.join(str(error).split())[:200]}") from error
