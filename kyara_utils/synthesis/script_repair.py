"""A teacher's texts counted by script and repaired where a run wants that, before any rule sees them.

People who build Taiwanese models ask for this first: how often does a teacher leak Simplified characters or mainland
terms (`text.script_leaks`)? A run chooses: `reject` loses such a row, `convert` rewrites the words and keeps it.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from kyara_utils.llm import Client, Response
from kyara_utils.llm.protocol import Request
from kyara_utils.runs import KyaraError
from kyara_utils.text.script_leaks import leaks, repair

MODES = ("reject", "convert")


class ScriptRepair:
    """A client whose texts are counted by script and, in the mode `convert`, repaired before any rule sees them.

    Verdicts (log-probabilities) pass through; the ledger keeps what the model wrote. `converted` holds the ids of the
    calls that were changed, so that a row can say so.
    """

    def __init__(self, client: Client, mode: str = "reject", language: str = "zh-Hant"):
        if mode not in MODES:
            raise KyaraError(f"script_repair {mode!r} is none of {', '.join(MODES)}")
        self.client, self.mode, self.language = client, mode, language
        self.counts: Counter[str] = Counter()
        self.converted: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def ask(self, requests: Iterable[Request], label: str = "", **options: Any) -> list[Response]:
        """Ask, then count and repair; see `Client.ask`."""
        requests = list(requests)
        responses = self.client.ask(requests, label=label, **options)
        if self.language == "zh-Hant":
            for request, response in zip(requests, responses, strict=True):
                if response.text and not request.top_logprobs:
                    self._look(response)
        return responses

    def _look(self, response: Response) -> None:
        self.counts["texts"] += 1
        if not leaks(response.text):
            return
        self.counts["leaked"] += 1
        if self.mode == "convert":
            response.text = repair(response.text)
            self.converted.add(response.call_id)
            self.counts["left"] += leaks(response.text)

    def report(self) -> dict[str, Any]:
        """Texts written, share that leaked before and after repair, for the metrics of the step."""
        texts = self.counts["texts"]
        left = self.counts["left"] if self.mode == "convert" else self.counts["leaked"]
        rates = {"leak_rate": self.counts["leaked"], "leak_rate_after": left}
        shares = {name: round(count / texts, 4) if texts else 0.0 for name, count in rates.items()}
        return {"script_repair": self.mode, "texts": texts, "leaked": self.counts["leaked"]} | shares
