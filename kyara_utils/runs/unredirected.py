"""No redirect for a request with a key: it would arrive at another host, key included, and a POST as a GET."""

import urllib.request
from typing import Any


class Unredirected(urllib.request.HTTPRedirectHandler):
    """A handler for `urllib.request.build_opener` under which a redirect is an `HTTPError`, as any refusal."""

    def redirect_request(self, *given: Any) -> None:
        return None


def open_unredirected(request: urllib.request.Request, timeout: float) -> Any:
    """`urllib.request.urlopen` without redirects; seconds."""
    return urllib.request.build_opener(Unredirected).open(request, timeout=timeout)
