"""How fast a server may be asked: what it is known to allow, and what it is found to allow.

`Gate` bounds requests under way by additive increase and multiplicative decrease (Chiu and Jain 1989). `Pace` spaces
requests out, at a known rate or at the one learnt from a refusal with a Retry-After.
"""

import asyncio
from collections import deque
from math import inf

EASE = 0.75  # of the requests under way remain after a refusal
EASE_EVERY = 1.0  # seconds: refusals of one moment count once
LEARN = 0.95  # of what was accepted becomes the rate
GROW = 1.05  # of the learnt rate, per second without a refusal
PROBE = 1.5  # the same after the first lesson, which may have come too early to be worth much
SHORTEST, LONGEST = 0.25, 60.0  # seconds of acceptances that a rate is learnt from


class Gate:
    """Requests under way: at most `most`, fewer while the server complains."""

    def __init__(self, most: int):
        self.most, self.limit, self.busy = most, float(most), 0
        self._waiting: deque[asyncio.Future] = deque()
        self._eased = -inf

    async def __aenter__(self) -> None:
        while self.busy >= int(self.limit):
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        self.busy += 1

    async def __aexit__(self, *exception: object) -> None:
        self.busy -= 1
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                break

    def accepted(self) -> None:
        """One more per `limit` answers."""
        self.limit = min(self.most, self.limit + 1 / self.limit)

    def refused(self, now: float) -> None:
        """Fewer, at most once a second; never none."""
        if now - self._eased >= EASE_EVERY:
            self.limit, self._eased = max(1.0, self.limit * EASE), now


class Pace:
    """Requests (or tokens) per second. `rate` inf lets everything pass."""

    def __init__(self, rate: float = inf):
        self.rate, self.known = rate, rate
        self._next = self._begun = self._grown = 0.0
        self._learnt = -inf
        self._lessons = 0
        self._accepted: deque[float] = deque(maxlen=100_000)

    async def wait(self, amount: float = 1.0) -> None:
        """Return when `amount` may be sent."""
        if self.rate == inf:
            return
        now = asyncio.get_running_loop().time()
        start = max(now, self._next)
        self._next = start + amount / self.rate
        if start > now:
            await asyncio.sleep(start - now)

    def accepted(self, now: float) -> None:
        """Count an acceptance; a learnt rate grows while nothing is refused, up to the known one."""
        self._begun = self._begun or now
        self._accepted.append(now)
        if self.rate < self.known and now - max(self._grown, self._learnt) >= 1.0:
            self.rate = min(self.known, self.rate * (PROBE if self._lessons == 1 else GROW))
            self._grown = now

    def refused(self, now: float, retry_after: float, under_way: int) -> None:
        """Learn the rate from what was accepted during the last `retry_after` seconds, at most twice a second.

        Where nothing was accepted yet, what is under way stands for it: the first refusals overtake the answers.
        """
        if retry_after <= 0 or now - self._learnt < 0.5:
            return  # "try again at once" is no rate limit
        window = min(max(retry_after, 1.0), LONGEST)
        while self._accepted and self._accepted[0] < now - window:
            self._accepted.popleft()
        seconds = min(window, max(SHORTEST, now - self._begun)) if self._begun else window
        self.rate = min(self.known, LEARN * max(1, len(self._accepted) or under_way) / seconds)
        self._learnt, self._lessons = now, self._lessons + 1
