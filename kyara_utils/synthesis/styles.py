"""What suits which teacher: prompt file, token limit and temperatures of every stage, in one table per style.

`completion` steers a base model by worked examples and takes one line from it. `brief` instructs a small chat model,
which follows short orders and loses the thread of long ones. `full` is the protocol of Kyara's card for a strong
teacher: zero-shot, because worked examples pull such a model towards their own length and form. A stage asks for its
task by name; no number that suits one kind of model stands anywhere else.
"""

from dataclasses import dataclass, field

from kyara_utils.llm import Client
from kyara_utils.runs import KyaraError

Support = tuple[float, float, float]
WARMER = (0.0, 0.4, 0.7)  # temperatures of the attempts at one text: greedy, then ever freer


@dataclass(frozen=True)
class Task:
    """How one kind of text is asked for: prompt file, most tokens, temperature of each attempt, texts per call."""

    prompt: str
    max_tokens: int = 1
    temperatures: tuple[float, ...] = (0.3,)
    repeat_penalty: float = 1.0
    texts: int = 1


@dataclass(frozen=True)
class Style:
    """One column of the table.

    question, request, evolved, problem: (least, most) characters of a question, of a request for a document, of an
    evolved question, of a maths problem; an English text has four times as many. one_line: a question is one
    sentence that ends in a question mark. sums: which numbers a sum may use (`maths.rules.check_solution`). flat:
    documents are shown on one line. titles: the model cites by titles, which it copies more surely than ids.
    trusted: a strong model, whose English words are meant and whose own 能 or 否 counts, so that a relevance threshold
    read off irrelevant pairs never falls below zero; controls: how many such pairs are asked. support, topic: least
    share of terms that the sources must hold of a short and of a long answer, question (or of an answer's characters);
    a base model that leaves their words has left the subject.
    """

    name: str
    question: tuple[int, int]
    request: tuple[int, int]
    evolved: tuple[int, int]
    problem: tuple[int, int]
    one_line: bool = False
    flat: bool = False
    titles: bool = False
    trusted: bool = False
    sums: str = "free"
    controls: int = 12
    support: Support = (0.3, 0.25, 0.47)
    topic: tuple[float, float] = (0.3, 0.15)
    tasks: dict[str, Task] = field(default_factory=dict)


COMPLETION = Style(
    "completion", (6, 60), (5, 60), (6, 160), (6, 64), one_line=True, flat=True, titles=True, sums="stated",
    support=(0.5, 0.5, 1.0), topic=(0.5, 0.5),
    tasks={
        "question": Task("question", 48, WARMER, 1.1),
        "evolve": Task("evolve", 72, (0.5,), 1.1),
        "equal": Task("evolve_equal"),
        "expand": Task("expand", 120),
        "relevance": Task("relevance"),
        "digest": Task("digest", 90, (0.05,), 1.05),
        "answer": Task("answer", 140, WARMER, 1.1),
        "cited": Task("cited_answer", 120, WARMER, 1.1),
        "followup": Task("followup", 48, (0.3,), 1.1),
        "followup_answer": Task("followup_answer", 140, (0.3,), 1.1),
        "document": Task("document_prompt", 48, (0.3,), 1.1),
        "faithful": Task("faithful"),
        "problem": Task("persona_problem", 48, (0.3, 0.5, 0.7)),
        "solution": Task("solution", 90, (0.0, 0.5)),
        "solution_check": Task("solution_check"),
        "short": Task("short_brief", 48, (0.5,), 1.05),
        "short_again": Task("short_answer", 40),
        "short_sentence": Task("short_sentence", 80, (0.0, 0.5)),
    },
)  # fmt: skip
BRIEF = Style(
    "brief", (6, 200), (5, 200), (6, 300), (12, 200), flat=True, titles=True, sums="once",
    tasks={
        "question": Task("question_brief", 120, (0.3, 0.8), 1.05, texts=2),
        "evolve": Task("evolve", 96, (0.5,), 1.05),
        "equal": Task("evolve_equal"),
        "expand": Task("expand", 160),
        "relevance": Task("relevance"),
        "digest": Task("digest", 160, (0.05,), 1.05),
        "answer": Task("answer_brief", 240, WARMER, 1.1),
        "cited": Task("cited_answer", 200, WARMER, 1.05),
        "followup": Task("followup", 64, (0.3,), 1.05),
        "followup_answer": Task("followup_answer", 200, (0.3,), 1.05),
        "document": Task("document_prompt", 64, (0.3,), 1.05),
        "faithful": Task("faithful"),
        "problem": Task("persona_problem_brief", 160, (0.3, 0.5, 0.7)),
        "solution": Task("solution_brief", 400, (0.0, 0.5)),
        "solution_check": Task("solution_check_brief"),
        "short": Task("short_brief", 120, (0.3,), texts=2),
        "short_again": Task("short_answer", 40, (0.0,)),
        "short_sentence": Task("short_sentence", 80, (0.0, 0.5)),
    },
)  # fmt: skip
FULL = Style(
    "full", (6, 400), (5, 400), (6, 800), (12, 800), trusted=True, controls=60,
    tasks={
        "question": Task("question_full", 1536, (0.7, 0.9), texts=5),
        "evolve": Task("evolve_full", 768, (0.7,)),
        "equal": Task("evolve_equal_full"),
        "expand": Task("expand_full", 512),
        "relevance": Task("relevance_full"),
        "digest": Task("digest_full", 1024, (0.05,)),
        "answer": Task("answer_detailed", 4096, (0.0, 0.5, 0.7)),
        "cited": Task("cited", 4096, (0.05, 0.5, 0.7)),
        "followup": Task("followup_full", 512, (0.7,)),
        "followup_answer": Task("followup_answer_full", 4096, (0.3,)),
        "document": Task("document_prompt_full", 512, (0.7,)),
        "faithful": Task("faithful_full"),
        "problem": Task("persona_problem_full", 1024, (0.7, 0.9)),
        "solution": Task("solution_full", 4096, (0.0, 0.7)),
        "solution_check": Task("solution_check_full"),
        "short": Task("short_full", 1024, (0.7,), texts=5),
        "short_again": Task("reading_row", 120, (0.0,)),
        "short_sentence": Task("short_sentence", 200, (0.0, 0.5)),
    },
)  # fmt: skip
STYLES = {style.name: style for style in (COMPLETION, BRIEF, FULL)}


def style_of(client: Client) -> Style:
    """Return the style of the client's model: `completion` for a base model, else what `params/models.yaml` says."""
    model = client.model
    usual = "completion" if model.dialect == "completion" else "full"
    name = getattr(model, "style", "") or usual
    if name not in STYLES:
        raise KyaraError(f"{model.name}: style {name!r} is none of {', '.join(STYLES)}; set one of them")
    return STYLES[name]


def limits(pair: tuple[int, int], language: str) -> tuple[int, int]:
    """Return (least, most) characters in a language: an English word takes the room of about four of Chinese."""
    return pair if language == "zh-Hant" else (2 * pair[0], 4 * pair[1])


def task_of(client: Client, name: str) -> Task:
    """Return how this client's model is asked for a text of the kind `name`."""
    return style_of(client).tasks[name]
