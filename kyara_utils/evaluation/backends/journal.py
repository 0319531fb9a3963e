"""Answers kept as they come, so that a run of hours goes on where it was killed."""

import hashlib
import json
from pathlib import Path
from typing import Any

from kyara_utils.runs.errors import KyaraError
from kyara_utils.runs.tables import Row


class Journal:
    """Answers kept as they come, one JSON line each, keyed by everything that decides them.

    A run that was killed is continued by running it again; the line it was cut in is asked for again.
    """

    def __init__(self, path: Path | None = None):
        self.path, self.found = Path(path) if path else None, {}
        if self.path is None:
            return
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        for line in text.split("\n"):
            try:
                entry = json.loads(line)
                self.found[entry["key"]] = entry["value"]
            except (ValueError, TypeError, KeyError):
                continue
        if text and not text.endswith("\n"):
            self._write("\n")

    def put(self, key: str, value: Any) -> None:
        """Keep one answer; it is on disk when this returns."""
        self.found[key] = value
        if self.path:
            self._write(json.dumps({"key": key, "value": value}, ensure_ascii=False) + "\n")

    def _write(self, text: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise KyaraError(f"cannot write {self.path} ({error.strerror}); free the disk, then rerun") from error


def answer_key(fingerprint: str, prompt: str, settings: Row) -> str:
    text = json.dumps([fingerprint, prompt, settings], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def fingerprint(model: Any) -> str:
    """Hash of a model's weights and configuration: the same name with other weights is another model."""
    import torch

    digest = hashlib.blake2b(json.dumps(model.config.to_dict(), sort_keys=True, default=str).encode(), digest_size=12)
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
