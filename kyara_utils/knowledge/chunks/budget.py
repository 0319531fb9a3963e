"""The tokens that a passage may have, and what a text will cost before it is counted."""

from collections.abc import Callable

FEWEST_TOKENS = 30  # of a passage that stands alone, or a quarter of a smaller budget
MIN_CHARACTERS = 24
TOKENS_PER_COST = 1 / 20  # before the first real count
MARGIN = 0.97  # of the budget that an estimate aims at
Piece = tuple[str, str, int]  # heading path, text, tokens


class Budget:
    """`max_tokens` by `count`, and the running estimate of tokens from cost; `room` is the cost that should fit.

    A passage of fewer than `least` tokens is a fragment.
    """

    def __init__(self, count: Callable[[str], int], max_tokens: int, base: int) -> None:
        self.count, self.max = count, max_tokens
        self.base = base  # special tokens and prefixes
        self.aim = max_tokens * MARGIN - base
        self.least = min(FEWEST_TOKENS, max_tokens // 4)
        self.rate = TOKENS_PER_COST
        self.room = int(self.aim / self.rate)

    def measure(self, text: str, cost: int) -> int:
        """Count for real, and learn from it."""
        tokens = self.count(text)
        if cost > 0:
            self.rate = min(max((tokens - self.base) / cost, TOKENS_PER_COST / 8), TOKENS_PER_COST * 8)
            self.room = int(self.aim / self.rate)
        return tokens

    def is_fragment(self, text: str, tokens: int) -> bool:
        """Say whether a passage is too small to stand alone."""
        return tokens < self.least or len(text) < MIN_CHARACTERS
