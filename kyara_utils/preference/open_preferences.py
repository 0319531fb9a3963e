"""Published preference sets beside our own pairs: from the Hub by name, or from files in any usual layout.

As `curation.open_sets` does for conversations; a row that is no pair becomes a reject row with file and line.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.curation.published_files import UNCHECKED, PublishedSet, nothing_read, opened, origin, read_item
from kyara_utils.preference.pair_layouts import FIELDS, PROMPTS, pair_of
from kyara_utils.preference.preference_rows import STEP
from kyara_utils.runs import content_id
from kyara_utils.runs.tables import Row

log = logging.getLogger(__name__)
NON_COMMERCIAL = "its repository (dvlab-research/Step-DPO) says cc-by-nc-4.0 for the data"
OPEN_PREFERENCES = {
    "ultrafeedback-binarized-preferences": PublishedSet(
        "argilla/ultrafeedback-binarized-preferences", "mit", "instruction, chosen_response, rejected_response"
    ),
    "ultrafeedback-binarized-preferences-cleaned": PublishedSet(
        "argilla/ultrafeedback-binarized-preferences-cleaned", "mit", "prompt, chosen, rejected"
    ),
    "Math-Step-DPO-10K": PublishedSet(
        "xinlai/Math-Step-DPO-10K", NON_COMMERCIAL, "prompt, initial_reason_steps, chosen, rejected"
    ),
    "kyara-chinese-preference-rl-dpo-s0-30K": PublishedSet(
        "zake7749/kyara-chinese-preference-rl-dpo-s0-30K", UNCHECKED, "chosen, rejected"
    ),
    "Infinity-Preference": PublishedSet("BAAI/Infinity-Preference", "apache-2.0", "prompt, chosen, rejected"),
    "hh-rlhf": PublishedSet("Anthropic/hh-rlhf", "mit", "chosen, rejected"),
    "distilabel-capybara-dpo-7k-binarized": PublishedSet(
        "argilla/distilabel-capybara-dpo-7k-binarized", "apache-2.0", "chosen, rejected"
    ),
}
Read = tuple[Row, Row | None]  # a preference row, or an empty one and its reject row


def read_open_preferences(entries: list[str], root: Path) -> Iterator[Read]:
    """Yield (preference row, None) or ({}, reject row) for each row of the sets, one after the other.

    An entry is a name of `OPEN_PREFERENCES` (read from the Hub), `NAME=PATH` for a local copy of one in its published
    layout, or the path of a file or folder of your own (.parquet, .jsonl, .json); `source` is the name, or the file's.
    Raises `KyaraError` for a set that lacks the published fields or gives no pair. Any number of rows.
    """
    for entry in entries:
        name, licence, items = opened(entry, root, OPEN_PREFERENCES)
        log.info("%s: licence %s", name, licence or "yours to know")
        pairs, last = 0, None
        for place, item in items:
            read = _read(item, name, licence, place)
            pairs, last = (pairs, read[1]) if read[1] else (pairs + 1, last)
            yield read
        if not pairs:
            raise nothing_read(entry, "pair", last, (*(field for pair in FIELDS for field in pair), *PROMPTS))


def _read(item: Any, name: str, licence: str, place: str) -> Read:
    pair, rejected = read_item(pair_of, item, STEP, name, place)
    if rejected:
        return {}, rejected
    note = origin(place, licence) | ({"ratings": pair["ratings"]} if pair["ratings"] else {})
    chosen_model, rejected_model = (model if isinstance(model, str) else "" for model in pair["models"])
    texts = [message["content"] for part in ("prompt", "chosen", "rejected") for message in pair[part]]
    return {
        "id": content_id(*texts, prefix="pref_", n=12),
        **{part: pair[part] for part in ("prompt", "chosen", "rejected")},
        "source": name,
        "chosen_model": chosen_model,
        "rejected_model": rejected_model,
        "verdicts": json.dumps(note, ensure_ascii=False, sort_keys=True),
        "parents": [],
        "call_ids": [],
        "rejected_cut": False,
        "step": pair["step"],
    }, None
