"""The package's messages, shown: plain lines on stdout, alike in notebooks, in papermill's copies and in log files.

Modules only say `logging.getLogger(__name__).info(…)`; a program that uses the package as a library hears none.
"""

import logging
import sys


class _Stdout(logging.StreamHandler):
    """Writes to whatever `sys.stdout` is now: notebooks, tests and redirections replace it."""

    @property
    def stream(self):
        return sys.stdout

    @stream.setter
    def stream(self, value):
        pass  # the base class sets it once, to what stdout was then

    def handleError(self, record: logging.LogRecord) -> None:
        """Let a closed pipe end the command quietly (`… | head`); anything else is logging's own business."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise
        super().handleError(record)


def show_messages(level: int = logging.INFO) -> None:
    """Show what `kyara_utils` logs from `level` on, just the message; calling it again changes the level only."""
    logger = logging.getLogger("kyara_utils")
    logger.setLevel(level)
    if not any(isinstance(handler, _Stdout) for handler in logger.handlers):
        handler = _Stdout()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    # Colab gives the root logger a handler of its own, which would show every line twice.
    logger.propagate = not any(type(handler) is logging.StreamHandler for handler in logging.getLogger().handlers)
