"""Refusals: which are worth another try, which are one row's own, which end the step, and what the user has to change.

Asking a hundred thousand rows for a model that does not exist costs a night and finds out nothing more.
"""

import logging
import re
import time

from kyara_utils.llm.endpoints import Model
from kyara_utils.runs.errors import KyaraError

RETRY = {408, 409, 429, 500, 502, 503, 504, 529}
CROWDED = {429, 503, 529}  # the server says that it has too much to do
HOPELESS = {301, 302, 303, 307, 308, 401, 402, 404, 405}  # of the address, key or account: no row would fare better
FEW, SOME = 3, 10  # identical refusals without an answer between them that end a step: before any answer, after one
PATIENCE = 600.0  # seconds that a server may ask to wait; beyond, the step ends
SAID = 30.0  # seconds of waiting that are worth a line, and between two such lines
# A 429 of an account without money is final. A row's own fault: its length, or what a filter sees in it.
SPENT = ("insufficient_quota", "billing_hard_limit", "insufficient balance")
OF_THE_ROW = (
    "context_length", "context length", "exceed_context", "token count", "input length", "model length", "too long",
    "too large", "content_filter", "content_policy", "content management", "content exists risk", "data_inspection",
    "flagged", "moderation", "invalid_prompt", "敏感",
)  # fmt: skip
LIMITED = "wait for the account's limits, or set rpm and tpm in params/models.yaml"
log = logging.getLogger(__name__)


class Refusals:
    """Counts refusals of one model that are alike, and raises `KyaraError` with the fix when going on is pointless."""

    def __init__(self, model: Model):
        self.model, self._last, self._alike, self._answered, self._said = model, "", 0, False, -SAID

    def answered(self) -> None:
        """An answer shows that address, key and model are right."""
        self._answered, self._alike = True, 0

    def refused(self, status: int, error: str, location: str = "") -> None:
        """Count a final refusal. Raises when it holds for every row, or when a few alike came in a row."""
        if status in HOPELESS or spent(error):
            raise KyaraError(f"{self.model.name}: {error}; {self._fix(402 if spent(error) else status, location)}")
        if any(word in error.lower() for word in OF_THE_ROW):
            return
        kind = f"{status} {re.sub(r'[^ ]*[0-9][^ ]*', '#', error)[:120]}"  # numbers of requests and tokens differ
        self._alike = self._alike + 1 if kind == self._last else 1
        self._last = kind
        if self._alike >= (SOME if self._answered else FEW):
            raise KyaraError(f"{self.model.name}: {self._alike} times {error}; {self._fix(status, location)}")

    def _fix(self, status: int, location: str) -> str:
        """What a person has to do about a refusal; status 200 stands for a body that is no JSON."""
        key = f"the key in {self.model.key_env}" if self.model.key_env else "a key (key_env)"
        address = "set base_url to the API's address, which usually ends in /v1"
        if 300 <= status < 400:
            return f"the address has moved: set base_url to {location or 'the new one'}"
        return {
            200: address, 401: f"give {key} that is valid", 402: "top the account up, then rerun",
            403: f"{key} may not use this model: ask for access, or name another",
            404: f"check the field model, and {address}", 405: address,
        }.get(status, "change what the message names: engine, omit, rename or extra in params/models.yaml")  # fmt: skip

    def asked_to_wait(self, seconds: float, error: str) -> None:
        """Say a long wait; raise when it is longer than anybody would sit through."""
        if seconds > PATIENCE:
            raise KyaraError(f"{self.model.name} asks to wait {_length(seconds)} ({error}); rerun then, or {LIMITED}")
        if seconds >= SAID and time.monotonic() - self._said >= SAID:
            self._said = time.monotonic()
            log.warning("%s asks to wait %s (%s); waiting", self.model.name, _length(seconds), error[:120])


def spent(error: str) -> bool:
    """Whether a refusal says that the account has no money left, whatever its status."""
    return any(word in error.lower() for word in SPENT)


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds:.0f} seconds"


def no_json(content: bytes) -> str:
    """Name what a server sent at status 200 instead of JSON: a web page or an event stream; "" for JSON cut short."""
    head = content[:200].lstrip().lower()
    if head.startswith(b"<"):
        return "a web page instead of JSON"
    return "an event stream, which nobody asked for" if head.startswith((b"data:", b"event:", b":")) else ""


def key_problem(key: str) -> str:
    """What is wrong with a key that no HTTP header can carry, or ""."""
    bad = [mark for mark in key if not "!" <= mark <= "~"]
    return f"holds {bad[0]!r}, which no key does" if bad else ""
