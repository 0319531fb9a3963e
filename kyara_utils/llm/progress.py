"""A line that tells people and logs where the asking stands: rows, failures, tokens per second, money, time left."""

import time

from tqdm import tqdm

from kyara_utils.llm.protocol import Response

EVERY = 5.0  # seconds between two prints: a log of a long run stays readable


class Progress:
    """A tqdm bar whose postfix is drawn from a client's running usage; nothing is computed between two prints."""

    def __init__(self, label: str, total: int | None, usage: dict[str, float], priced: bool, shown: bool = True):
        self.label = label
        self._bar = tqdm(total=total, desc=label, mininterval=EVERY, disable=not shown, ascii=True)
        self._usage, self._before, self._priced = usage, dict(usage), priced
        self._done, self._failed, self._begun, self._drawn = 0, 0, time.monotonic(), time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._draw()
        self._bar.close()

    def advance(self, response: Response | None) -> None:
        """Count one row."""
        self._done += 1
        self._failed += bool(response is None or response.error)
        if time.monotonic() - self._drawn >= EVERY:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        new = {name: self._usage[name] - self._before[name] for name in self._before}
        tokens = (new["prompt_tokens"] + new["completion_tokens"]) / max(1e-9, self._drawn - self._begun)
        parts = [f"{new['calls']} calls", f"{new['stored']} stored", f"{self._failed} failed", f"{tokens:,.0f} tok/s"]
        self._bar.set_postfix_str(", ".join(parts + [f"${new['cost']:.4g}"] * self._priced), refresh=False)
        self._bar.update(self._done - self._bar.n)
        self._bar.refresh()
