"""A client without a model, for tests of bookkeeping alone: it answers by a function of the request."""

from kyara_utils.llm import Model, Response


class Scripted:
    """Stands in for `Client`; keeps what it was asked."""

    def __init__(self, answer, dialect="completion", **fields):
        self.answer, self.asked = answer, []
        self.model = Model("scripted", dialect=dialect, **fields)

    def ask(self, requests, label="", **options):
        self.asked += requests
        return [self.answer(request) for request in requests]


def text(value: str, finish_reason: str = "stop", **fields) -> Response:
    return Response(f"call_{abs(hash(value)) % 10**6}", value, finish_reason, **fields)


def last(request) -> str:
    return request.messages[-1]["content"]
