"""See a row as the model sees it, decoded from its token ids, with the span that carries the loss in ⟦ ⟧.

    python -m kyara_utils.training.show conversations.parquet --model MODEL_FOLDER --row 3

Reads Parquet or JSON Lines, of conversations (`messages`) or preferences (`prompt`, `chosen`, `rejected`).
"""

import argparse
from pathlib import Path
from typing import Any

from kyara_utils.models.chat_templates import render_row
from kyara_utils.models.loading import load_tokenizer
from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import read_any
from kyara_utils.training.pair_rows import check_pair_turns, pair_ids


def render(tokenizer, row: dict[str, Any]) -> str:
    """Return a conversation, or a preference as two lines; `KyaraError` for a row that cannot be trained on."""
    if row.get("messages"):
        return render_row(tokenizer, row["messages"])
    if not all(row.get(name) for name in ("prompt", "chosen", "rejected")):
        raise KyaraError(f"row {row.get('id')} has neither messages nor prompt, chosen and rejected; give another file")
    for side in ("chosen", "rejected"):
        if problem := check_pair_turns(row, side):
            raise KyaraError(f"row {row.get('id')}: {side}: {problem}; fix or drop the row")
    ids = pair_ids(tokenizer, row)
    prompt = tokenizer.decode(ids["prompt_ids"])
    return "\n".join(f"{side}: {prompt}⟦{tokenizer.decode(ids[f'{side}_ids'])}⟧" for side in ("chosen", "rejected"))


def main(arguments: list[str] | None = None) -> None:
    """Command line: one row, or the first three."""
    parser = argparse.ArgumentParser(prog="python -m kyara_utils.training.show", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="folder whose tokenizer reads the rows")
    parser.add_argument("--row", type=int, help="its number, from 0; without it the first three")
    given = parser.parse_args(arguments)
    if not (given.model / "tokenizer.json").is_file():
        raise KyaraError(f"{given.model} has no tokenizer.json; give a model folder, such as step 05's sft")
    rows, tokenizer = read_any(given.file), load_tokenizer(given.model)
    if given.row is not None and not 0 <= given.row < len(rows):
        raise KyaraError(f"{given.file} has rows 0 to {len(rows) - 1}, no {given.row}")
    for number in range(min(3, len(rows))) if given.row is None else [given.row]:
        print(f"--- row {number} {rows[number].get('id', '')}\n{render(tokenizer, rows[number])}")


if __name__ == "__main__":
    try:
        main()
    except KyaraError as error:
        raise SystemExit(str(error)) from error
