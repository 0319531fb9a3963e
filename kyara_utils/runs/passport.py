"""What a row's passport looks like: one list of blocks, shown as text for a terminal and as one offline HTML page.

Everything in it is somebody's data: the page escapes it all, holds no script and loads nothing; control characters are
replaced, so a document can neither move the terminal's cursor nor turn the reading direction.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kyara_utils.runs.tables import Row

TEMPLATES = Path(__file__).with_name("templates")
TEXT_LIMIT, PAGE_LIMIT = 600, 20_000  # characters shown of one value
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
STRUCTURE = ("id", "meta", "parents", "call_ids", "calls", "call_id")  # shown in places of their own
GLANCE = (
    "kind", "source", "lang", "title", "heading", "path", "topic", "rounds", "answerable", "citations", "model",
    "judge", "chosen_model", "rejected_model",
)  # fmt: skip
SECTIONS = {
    "text": "Text", "chunk": "Document", "document": "Document", "persona": "Persona", "question": "Question",
    "request": "Request", "problem": "Problem", "messages": "Conversation", "evolution": "Evolution",
    "followup": "Follow-ups", "queries": "Search queries", "hits": "Retrieved", "digests": "Digests",
    "context": "Documents shown", "answer": "Answer", "solution": "Solution", "prompt": "Prompt", "chosen": "Chosen",
    "rejected": "Rejected", "first": "First answer", "second": "Second answer", "sample": "Sample",
    "verdicts": "Judge verdicts", "verdict": "Judge verdict", "checks": "Checks", "prompts": "Prompt versions",
}  # fmt: skip
NAMELESS = ("id", "step", "what", "detail")  # values that need no name before them in text
CALL_COLUMNS = ("key", "model", "request", "response", "prompt_tokens", "completion_tokens", "seconds", "created")


def render_text(passport: Row) -> str:
    """Return the passport that `lineage` made as plain text; long values keep their beginning and end."""
    lines: list[str] = []
    for block in blocks(passport, TEXT_LIMIT):
        lines += ["", block["heading"], "=" * min(len(block["heading"]), 100)]
        for section in block["sections"]:
            lines += ["", section["title"], *(_line(row) for row in section["rows"])]
    return "\n".join(lines).strip("\n")


def render_html(passport: Row) -> str:
    """Return the passport that `lineage` made as one static HTML page."""
    import jinja2

    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), **options).get_template("passport.html")
    title = shown(f"{passport['id']} · recipe {passport['recipe']}", 200)
    anchors = {shown(node["id"], PAGE_LIMIT): f"row-{number}" for number, node in enumerate(passport["nodes"])}
    return page.render(title=title, anchors=anchors, blocks=blocks(passport, PAGE_LIMIT))


def _line(row: Row) -> str:
    """One row of a section as text: two values as `a: b`, more with their names; long text goes below, indented."""
    cells = [(name, value) for name, value in row.items() if value]
    if len(row) == 1:
        return _below("  ", cells[0][1]) if cells else ""
    if len(row) == 2 and len(cells) == 2:
        return _below(f"  {cells[0][1]}:", cells[1][1])
    short = [value if name in NAMELESS else f"{name} {value}".strip() for name, value in cells if not _long(value)]
    long = [_below(f"    {name}:", value) for name, value in cells if _long(value)]
    return "\n".join(["  " + " · ".join(short)] * bool(short) + long)


def _long(value: str) -> bool:
    return len(value) > 60 or "\n" in value


def _below(head: str, text: str) -> str:
    """Text after its head, or from the next line on and indented where it is long."""
    if not _long(text):
        return f"{head} {text}" if head.strip() else f"  {text}"
    return "\n".join([head] * bool(head.strip()) + [f"      {line}" for line in text.split("\n")])


def blocks(passport: Row, limit: int) -> list[Row]:
    """The passport as blocks {anchor, heading, sections}; a section is {title, folded, rows}, all values text.

    The first block is the row, with what became of it; then its ancestors, then the manifests of the steps on the way.
    """
    nodes = passport["nodes"]
    known = passport["passages"] | {node["id"]: node["row"] for node in nodes}
    found = []
    for number, node in enumerate(nodes):
        sections = [*_facts(node["row"], known), *(_fate(passport) if number == 0 else []), *_calls(node, passport)]
        heading = f"{'from ' if number else ''}{node['id']} · {_form(node)}"
        found.append((f"row-{number}", heading, sections))
    found.append(("manifests", "steps on the way", [("Manifests", [_manifest(m) for m in passport["manifests"]])]))
    return [_block(anchor, heading, sections, limit) for anchor, heading, sections in found]


def _block(anchor: str, heading: str, sections: list[tuple[str, list[Row]]], limit: int) -> Row:
    made = []
    for title, rows in sections:
        texts = [{shown(name, 200): shown(value, limit) for name, value in row.items()} for row in rows]
        made.append({"title": shown(title, 200), "folded": title.startswith("Call "), "rows": texts})
    return {"anchor": anchor, "heading": shown(heading, 200), "sections": [part for part in made if part["rows"]]}


def _form(node: Row) -> str:
    row, places = node["row"], node["places"]
    if not places:
        return "in no table of this recipe (a persona, or a row from elsewhere)"
    forms = {"doc_id": "document chunk", "chosen_model": "preference pair", "messages": "conversation"}
    form = next((name for key, name in forms.items() if key in row), "row")
    return f"{form}, {'rejected in' if places[0]['rule'] else 'written by'} {places[0]['step']}"


def _facts(row: Row, known: dict[str, Row]) -> Iterator[tuple[str, list[Row]]]:
    """Sections of a row and its `meta`: the keys that we know in their order, then a table of all others."""
    meta = row.get("meta")
    extra = meta if isinstance(meta, dict) else {"meta, unread": meta} if meta else {}
    facts = {key: value for key, value in row.items() if key not in STRUCTURE}
    facts |= {f"meta.{key}" if key in facts else key: value for key, value in extra.items()}
    yield "At a glance", _fields({key: facts.pop(key) for key in GLANCE if key in facts})
    for key in [key for key in SECTIONS if key in facts]:
        yield SECTIONS[key], _rows(key, facts.pop(key), known)
    yield "Other fields", _fields(facts)


def _fields(values: Row) -> list[Row]:
    return [{"field": name, "value": value} for name, value in values.items() if value not in (None, "", [], {})]


def _rows(key: str, value: Any, known: dict[str, Row]) -> list[Row]:
    if isinstance(value, dict):
        return _fields(value)
    if key == "prompts" and isinstance(value, list):
        return [{"prompt": name, "version": version} for name, _, version in (str(v).rpartition("@") for v in value)]
    items = value if isinstance(value, list) else [value] if value not in (None, "") else []
    if key in ("hits", "digests", "context", "document"):
        return [_passage(item, known) for item in items]
    return [item if isinstance(item, dict) else {"": item} for item in items]


def _passage(item: Any, known: dict[str, Row]) -> Row:
    """A retrieved or shown chunk: what the row says of it, then title and text from the table of chunks."""
    item = item if isinstance(item, dict) else {"id": item}
    chunk = known.get(item["id"], {}) if isinstance(item.get("id"), str) else {}
    return item | {key: chunk[key] for key in ("title", "path", "text") if key in chunk and key not in item}


def _fate(passport: Row) -> Iterator[tuple[str, list[Row]]]:
    node, events = passport["nodes"][0], []
    for number, place in enumerate(node["places"]):
        what = f"{'kept in' if number else 'written to'} {place['table']}"
        what = f"rejected: {place['rule']}" if place["rule"] else what
        detail = place["detail"] or (f"set {', '.join(place['added'])}" if place["added"] else "")
        events.append({"step": place["step"], "what": what, "detail": detail})
    for reader in passport["readers"]:
        age = "" if reader["current"] else "that was an earlier version; rerun this step"
        what = f"had {reader['source']}/{reader['table']} among its inputs; no table of its own names this row"
        events.append({"step": reader["step"], "what": what, "detail": age})
    yield "What became of it", sorted(events, key=lambda event: event["step"])
    rows = [{"id": child["id"], "what": _form(child), "places": _places(child)} for child in passport["children"]]
    more = [{"": f"and {passport['more_children']} more"}] if passport["more_children"] else []
    yield "What came of it", rows + more


def _places(node: Row) -> str:
    return ", ".join(f"{p['step']}/{p['table']}{': ' * bool(p['rule'])}{p['rule']}" for p in node["places"])


def _manifest(content: Row) -> Row:
    done = content.get("finished", "no manifest: the step has not completed")
    params = content.get("key", {}).get("params", "")
    return {
        "step": content["step"], "finished": done, "git commit": content.get("git", ""),
        "seconds": content.get("seconds", ""), "parameters": params,
    }  # fmt: skip


def _calls(node: Row, passport: Row) -> Iterator[tuple[str, list[Row]]]:
    names, calls = node["call_ids"], passport["calls"]
    if not names:
        return
    if passport["calls_note"]:
        yield "Model calls", [{"": f"not at hand: {passport['calls_note']}"}, *({"": name} for name in names)]
        return
    at_hand = [calls[name] for name in names if name in calls]
    tokens = [sum(call.get(key) or 0 for call in at_hand) for key in ("prompt_tokens", "completion_tokens")]
    seconds = sum(call.get("seconds") or 0 for call in at_hand)
    count = f"{len(names)} call{'s' * (len(names) > 1)}"
    yield "Model calls", [{"": f"{count}, {tokens[0]:,} prompt and {tokens[1]:,} completion tokens, {seconds:.1f} s"}]
    for number, name in enumerate(names, 1):
        yield _call(f"Call {number} of {len(names)}", name, calls.get(name))


def _call(head: str, name: str, call: Row | None) -> tuple[str, list[Row]]:
    if call is None:
        return f"{head} · not in the store", [{"": name}]
    request, choice = call.get("request"), _choice(call.get("response"))
    request = request if isinstance(request, dict) else {"prompt": request}
    message = choice.get("message")
    reply = message.get("content") if isinstance(message, dict) else choice.get("text")
    used = f"{call.get('prompt_tokens')} + {call.get('completion_tokens')} tokens · {call.get('seconds') or 0:.2f} s"
    ending = f"{used} · {choice.get('finish_reason') or 'no finish reason'}" if "response" in call else "failed"
    title = f"{head} · {call.get('model')} · {ending}"
    rest = {key: value for key, value in call.items() if key not in CALL_COLUMNS}
    fields = {
        "id": name, "prompt as sent": _sent(request), "response": reply, "first token": _logprobs(choice),
        "settings": {key: value for key, value in request.items() if key not in ("prompt", "messages")},
        "answered": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(call["created"])) if call.get("created") else "",
    } | rest  # fmt: skip
    return title, _fields(fields)


def _sent(request: Row) -> Any:
    messages = request.get("messages")
    if not isinstance(messages, list):
        return request.get("prompt")
    return "\n\n".join(f"[{m.get('role')}] {plain(m.get('content'))}" for m in messages if isinstance(m, dict))


def _choice(response: Any) -> Row:
    choices = response.get("choices") if isinstance(response, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _logprobs(choice: Row) -> str:
    """The likeliest first tokens with their log-probabilities, in either of the two published layouts."""
    try:
        found = choice["logprobs"]
        tops = found["content"][0]["top_logprobs"] if "content" in found else found["top_logprobs"][0]
        pairs = tops.items() if isinstance(tops, dict) else [(top["token"], top["logprob"]) for top in tops]
        return ", ".join(f"{token!r} {value:.2f}" for token, value in list(pairs)[:6])
    except (KeyError, IndexError, TypeError, ValueError):
        return ""


def plain(value: Any) -> str:
    """A value as a reader wants it: text as it is, numbers short, anything nested as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def shown(value: Any, limit: int) -> str:
    """A value as safe text of about `limit` characters: beginning and end kept, control characters replaced."""
    text = plain(value).replace("\r\n", "\n").encode("utf-8", "replace").decode()
    if len(text) > limit:
        tail = limit // 3
        text = f"{text[: limit - tail]} […{len(text) - limit:,} characters left out…] {text[-tail:]}"
    return UNSEEN.sub("\ufffd", text)
