"""Getting one body answered: replicas, limits, retries with jitter, and what the server asks for in Retry-After.

aiohttp and orjson rather than a provider's SDK: a tenth of the CPU per request, and the raw body is what is kept.
"""

import asyncio
import os
import random
import time
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from kyara_utils.llm.endpoints import Model, is_local
from kyara_utils.llm.ledger import Reply
from kyara_utils.llm.limits import Gate, Pace
from kyara_utils.llm.reading import Unreadable, read_response
from kyara_utils.llm.refusals import CROWDED, RETRY, Refusals, key_problem, no_json, spent
from kyara_utils.runs.errors import KyaraError

ATTEMPTS = 6
FIRST_WAIT, LONGEST_WAIT = 0.25, 60.0  # seconds of exponential backoff where the server names no time
REST = 10.0  # seconds that a replica is left alone after a connection failed
SILENT = 10  # failures in a row, without one answer, after which nobody is taken to be there


class Transport:
    """One HTTP session to all replicas of a model."""

    def __init__(self, model: Model, urls: list[str]):
        self.model, self.urls = model, urls
        self.gate, self.pace = Gate(model.parallel), Pace(model.rpm / 60 if model.rpm else inf)
        self.tokens = Pace(model.tpm / 60 if model.tpm else inf)
        self.refusals, self._proxies = Refusals(model), {url: proxy_of(url) for url in urls}
        self._busy, self._resting = dict.fromkeys(urls, 0), dict.fromkeys(urls, 0.0)
        self._session: Any = None
        self._answers = self._silence = 0

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: bytes, tokens: int) -> Reply:
        """Ask until there is an answer, a final refusal, or `ATTEMPTS` are used up.

        tokens: about how many the call will cost, for the tokens-per-minute limit. Raises `KyaraError` when no other
        row would fare better: key, account, model or address are refused, or no replica ever answers.
        """
        reply = Reply()
        while reply.attempts < ATTEMPTS:
            await self.pace.wait()
            await self.tokens.wait(tokens)
            async with self.gate:
                reply.attempts += 1
                wait = await self._attempt(path, body, reply)
            if wait is None:
                return reply
            if reply.attempts < ATTEMPTS:
                await asyncio.sleep(wait)
        reply.error += f" (after {ATTEMPTS} attempts)"
        return reply

    async def _attempt(self, path: str, body: bytes, reply: Reply) -> float | None:
        """Ask once; None when that settles it, else the seconds to wait."""
        import aiohttp

        url = self._least_busy()
        begun = time.monotonic()
        self._busy[url] += 1
        try:
            # a redirected POST would arrive as a GET, and the key somewhere else
            sending = self.session().post(url + path, data=body, proxy=self._proxies[url], allow_redirects=False)
            async with sending as answer:
                content = await answer.read()
                reply.seconds = time.monotonic() - begun
                return self._read(answer.status, answer.headers, content, reply)
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            reply.error = f"{type(error).__name__}: {error}"[:300]
            self._failed(url, error, reply)
        finally:
            self._busy[url] -= 1
        return backoff(reply.attempts)

    def session(self):
        """The session, opened inside the loop; connections are kept alive between calls."""
        import aiohttp

        if self._session is None:
            limits = aiohttp.ClientTimeout(total=self.model.timeout, sock_connect=30)
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
            headers = {"Content-Type": "application/json", **key_header(self.model)}
            self._session = aiohttp.ClientSession(timeout=limits, headers=headers, connector=connector)
        return self._session

    def _least_busy(self) -> str:
        now = time.monotonic()
        awake = [url for url in self.urls if self._resting[url] <= now] or self.urls
        return min(awake, key=self._busy.__getitem__)

    def _read(self, status: int, headers: Any, content: bytes, reply: Reply) -> float | None:
        now = asyncio.get_running_loop().time()
        if status == 200:
            return self._accept(content, reply, now)
        reply.raw, reply.parsed = content, {}
        shown = " ".join(content[:1000].decode("utf-8", "replace").split())[:300]
        reply.error = f"HTTP {status}: {shown}"
        if status not in RETRY or (status == 429 and spent(shown)):
            self.refusals.refused(status, reply.error, headers.get("Location", ""))
            return None
        asked = retry_after(headers.get("Retry-After"))
        self.refusals.asked_to_wait(asked or 0.0, reply.error)
        if status in CROWDED:
            self.gate.refused(now)
            self.pace.refused(now, asked or 0.0, self.gate.busy)
        # what the server names is a lower bound: never before it, and not all at the same moment after it
        return backoff(reply.attempts) if asked is None else asked + random.uniform(0, 0.05 + 0.1 * asked)

    def _accept(self, content: bytes, reply: Reply, now: float) -> float | None:
        if what := no_json(content):
            reply.raw, reply.error = content, f"HTTP 200 with {what}: {content[:100]!r}"
            self.refusals.refused(200, reply.error)
            return None
        reply.raw, reply.parsed = content, orjson.loads(content)  # a body cut short is a ValueError: asked again
        self._answers += 1
        try:
            reply.answer, reply.error = read_response("", reply.parsed), ""
        except Unreadable as error:  # some gateways fail with a 200
            reply.error = str(error)[:300]
            if error.status in RETRY:
                return backoff(reply.attempts)
            self.refusals.refused(error.status, reply.error)
            return None
        self.refusals.answered()
        self.gate.accepted()
        self.pace.accepted(now)
        return None

    def _failed(self, url: str, error: Exception, reply: Reply) -> None:
        import aiohttp

        if isinstance(error, aiohttp.ClientConnectorError):
            self._resting[url] = time.monotonic() + REST
            self._silence += 1
            if not self._answers and self._silence >= SILENT:
                where = ", ".join(self.urls)
                raise KyaraError(f"nobody answers at {where} ({reply.error}); start the server or set base_url")
        if isinstance(error, TimeoutError):
            self.gate.refused(asyncio.get_running_loop().time())


def key_header(model: Model) -> dict[str, str]:
    """The header with a model's key, {} for one without; `KyaraError` says what to export."""
    name = model.key_env
    if not name:
        return {}
    if not os.environ.get(name):
        raise KyaraError(f"{model.name} needs a key; export {name}=… and start again")
    if problem := key_problem(os.environ[name]):
        raise KyaraError(f"{model.name}: the key in {name} {problem}; export it again, without")
    return {"Authorization": f"Bearer {os.environ[name]}"}


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for an address (https_proxy, no_proxy …); never one for this machine.

    Not aiohttp's `trust_env`, which would also send passwords of ~/.netrc.
    """
    parts = urlsplit(url)
    if is_local(url) or proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def backoff(attempt: int) -> float:
    """Exponential with full jitter (Brooker 2015), at least half: rows that failed together do not return together."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, given as a number or as a date; None when it is absent or unreadable."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
