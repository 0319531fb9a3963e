"""A loopback teacher: an OpenAI-compatible server that answers each stage plausibly by looking at its prompt.

It cuts questions, answers and verdicts out of the documents that it is shown, so rows pass the same rules as a real
teacher's, in milliseconds. What it writes is good for testing the way of a row and for nothing else.
"""

import asyncio
import json
import math
import re
import threading
import zlib

from aiohttp import web

POSITIVE, NEGATIVE = ("能", "對", "異", "好", "是", "A", "Yes"), ("否", "錯", "同", "差", "不", "B", "No")
LACKING = "參考文件缺乏與問題相關資訊。"


class Teacher:
    """Serves `/v1/chat/completions` on a free loopback port in a thread of its own until the process ends."""

    def __init__(self):
        self.asked, self._ready = 0, threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait(10)

    async def _serve(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await asyncio.Event().wait()

    async def _answer(self, request):
        self.asked += 1
        body = await request.json()
        text = body["messages"][-1]["content"]
        choice = {"message": {"role": "assistant", "content": reply(text, body)}, "finish_reason": "stop"}
        if body.get("top_logprobs"):
            choice["logprobs"] = {"content": [{"top_logprobs": verdict(text)}]}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": len(text), "completion_tokens": 50}})


def section(text: str, *headings: str) -> str:
    """What stands below the first of these headings that the prompt has."""
    for heading in headings:
        if found := re.search(rf"^# {heading}\n(.*?)(?=\n\n?# |\n---|\Z)", text, re.S | re.M):
            return found.group(1).strip()
    return ""


def sentences(text: str) -> list[str]:
    """Sentences of some length, headings and Markdown signs left out."""
    found = re.split(r"[。！？\n]", re.sub(r"[#*`>【】「」『』()（）]", "", text))
    return [part.split("：")[-1].split(":")[-1].strip() for part in found if len(part.strip()) >= 12]


def told(document: str, start: int = 0) -> str:
    """The document's clauses in other joints, so that nothing long is copied."""
    clauses = re.split(r"[，；、]", "，".join(sentences(document)[start : start + 3]))
    return "簡單來說，" + "，另外".join(clause for clause in clauses if clause)[:240] + "，這就是重點。"


def shared(question: str, document: str) -> float:
    """Share of the question's pairs of characters that the document has."""
    pairs = {question[i : i + 2] for i in range(len(question) - 1)}
    return sum(pair in document for pair in pairs) / max(1, len(pairs))


def question_about(sentence: str) -> str:
    return f"為什麼說{sentence[:36]}？"


def verdict(text: str) -> list[dict]:
    """Log-probabilities of all labels at once: what is asked about decides for the positive or the negative ones."""
    document, question = section(text, "文件", "資料"), section(text, "使用者問題", "敘述")
    odds = 8 * shared(question, document) - 3 if document else 2 + zlib.crc32(text.encode()) % 100 / 50
    signs = [(label, odds) for label in POSITIVE] + [(label, -odds) for label in NEGATIVE]
    return [{"token": label, "logprob": -math.log1p(math.exp(-sign))} for label, sign in signs]


def reply(text: str, body: dict) -> str:
    """The answer to a prompt of any stage; see `STAGES`."""
    schema = json.dumps(body.get("response_format") or body.get("guided_json") or "")
    if "search_query" in schema:
        asked = section(text, "使用者問題")
        return json.dumps({"search_query": [asked[n : n + 12] for n in range(5)]}, ensure_ascii=False)
    if '"tag"' in schema:
        words = [text[at : at + 3] for at in range(6, 15, 3)]
        return json.dumps({"tags": [{"tag": word, "explanation": "提到"} for word in words]}, ensure_ascii=False)
    if "questions" in schema:
        found = [{"kind": "reason", "question": question_about(s)} for s in sentences(section(text, "文件"))[:5]]
        return json.dumps({"questions": found}, ensure_ascii=False)
    return next((answer(text) for mark, answer in STAGES if mark in text), own_words(text, body["model"]))


def own_words(text: str, model: str) -> str:
    """Any other prompt: every model says it at its own length, so that a judge can tell them apart."""
    return f"談到{text[-24:].strip()}，" + "可以從原因、過程與影響三方面來看。" * (1 + zlib.crc32(model.encode()) % 7)


def cited(text: str) -> str:
    found = re.findall(r"文件ID: (\S+)\n\* 文件標題: (.*)\n\* 文件內文: ((?:.|\n)*?)(?=\n文件ID|\n---)", text)
    question = section(text, "使用者問題")
    name, _, body = max(found, key=lambda item: shared(question, item[2]))
    return f"{told(body)[:-1]}【{name}】。" if shared(question, body) > 0.4 else LACKING


def problem(text: str) -> str:
    persona, seed = section(text, "人物") or text.split("人物：")[1][:60], zlib.crc32(text.encode())
    a, b, days = 12 + seed % 37, 25 + seed % 41, 3 + seed % 5
    who = re.split(r"[，。、的]", persona.strip())[-2][-8:] or "老闆"
    return f"{who}每天賣出 {a} 份便當，每份 {b} 元，連續賣了 {days} 天，這些天一共收入多少元？"


def solution(text: str) -> str:
    a, b, days = (int(n) for n in re.findall(r"\d+", text.split("數學題")[1])[:3])
    lines = [
        f"先算每天的收入：{a} × {b} = {a * b} 元。",
        f"再算 {days} 天的收入：{a * b} × {days} = {a * b * days} 元。",
    ]
    return "\n".join([*lines, f"答案：{a * b * days} 元"])


def judged(text: str) -> str:
    one, two = (re.search(rf"Assistant {n}’s Answer\]\*\*\s*(.*?)\n---", text, re.S).group(1) for n in "AB")
    return f"I compared both with my own answer. [[{'A' if len(one) > len(two) else 'B' if one != two else 'C'}]]"


STAGES = (
    ("impartial judge", judged),
    ("標籤:", lambda text: ("知識、歷史", "知識、科學", "生活、知識")[zlib.crc32(text.encode()) % 3]),
    ("# 改寫方向", lambda text: f"請一步一步分析並舉例說明：{section(text, '提問')}"),
    ("重點資訊", lambda text: "，".join(sentences(section(text, "參考資料"))[:2]) + "。"),
    ("# 原始文件", lambda text: told(section(text, "原始文件"))),
    ("文件ID: ", cited),
    ("使用者讀完最後一段回答", lambda text: question_about(sentences(section(text, "知識"))[-1])),
    ("# 使用者的下一個問題", lambda text: told(section(text, "知識"), 1)),
    ("請寫出那個要求", lambda text: f"請介紹{sentences(section(text, '助理的回答'))[0][:24]}的來龍去脈。"),
    ("出一道國中程度", problem),
    ("請解下面這道數學題", solution),
    ("文件:", lambda text: question_about(sentences(text.split("文件:")[-1])[0])),
)
