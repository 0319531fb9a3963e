"""Simplified characters and mainland terms in rows that are to be Traditional Chinese as Taiwan writes it.

Qwen and other models trained mostly on Simplified text slip into it in the middle of a sentence (什么, 设计), or write
the mainland's word in Traditional characters (軟件). People who build Taiwanese models ask for this first, so it is
counted for every teacher, and a run chooses: `reject` loses the row, `convert` rewrites the words and keeps it.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from kyara_utils.llm import Client, Response
from kyara_utils.llm.protocol import Request
from kyara_utils.runs import KyaraError
from kyara_utils.text.normalise import converter, script_characters

log = logging.getLogger(__name__)
MODES = ("reject", "convert")
AROUND = 2  # characters on either side that tell which Traditional character a Simplified one stands for
# Words that one side of the strait alone uses; what both use (信號, 算法 within 演算法, 水平) is left out.
TERMS = dict(
    pair.split("=")
    for pair in (
        "視頻=影片 軟件=軟體 硬件=硬體 網絡=網路 互聯網=網際網路 默認=預設 內存=記憶體 "
        "硬盤=硬碟 鼠標=滑鼠 打印機=印表機 打印=列印 服務器=伺服器 屏幕=螢幕 人工智能=人工智慧 "
        "智能手機=智慧型手機 出租車=計程車 公交車=公車 西紅柿=番茄 方便麵=泡麵 納米=奈米 "
        "激光=雷射 芯片=晶片 集成電路=積體電路 晶體管=電晶體 二極管=二極體 光盤=光碟 鏈接=連結 "
        "短信=簡訊 優盤=隨身碟 數碼相機=數位相機 酸奶=優格 反饋=回饋 文件夾=資料夾 源代碼=原始碼 "
        "字符串=字串 字符=字元 數組=陣列 緩存=快取 宇航員=太空人 導彈=飛彈 概率=機率 "
        "勾股定理=畢氏定理 悉尼=雪梨 新西蘭=紐西蘭 意大利=義大利 沙特阿拉伯=沙烏地阿拉伯 "
        "特朗普=川普 老撾=寮國 戛納=坎城 埃塞俄比亞=衣索比亞 肯尼亞=肯亞 尼日利亞=奈及利亞 "
        "克羅地亞=克羅埃西亞 阿塞拜疆=亞塞拜然 危地馬拉=瓜地馬拉 也門=葉門 卡塔爾=卡達 迪拜=杜拜 "
        "高清視頻=高畫質影片 信息=資訊 操作系統=作業系統 移動電話=行動電話 筆記本電腦=筆記型電腦 "
        "數據庫=資料庫 程序員=程式設計師 編程=程式設計 調試=除錯 模塊=模組 菜單欄=選單列 "
        "博客=部落格 帖子=貼文 粘貼=貼上 撤銷=復原 黑客=駭客 搜索引擎=搜尋引擎 雲計算=雲端運算"
    ).split()
)
_TERMS = re.compile("|".join(sorted(TERMS, key=len, reverse=True)))
_NOT_TERMS = re.compile(
    r"信息素|電視頻道|電視頻率|新聞視頻道|收視頻|字符合|數字符|文字符|意大利亞|然也門|網絡繹|概率性"
)
_QUOTED = re.compile(r"「[^」\n]{1,12}」|『[^』\n]{1,12}』|“[^”\n]{1,12}”|《[^》\n]{1,30}》|```.*?```", re.S)
_SENTENCES = re.compile(r"[^。！？!?\n]*[。！？!?\n]*")


def simplified_only(text: str) -> str:
    """Return the Simplified-only characters of a text outside short quotations, in order."""
    hans, _ = script_characters()
    return "".join(c for c in _QUOTED.sub("", text) if c in hans)


def mainland_term(text: str, language: str = "zh-Hant", sources: Iterable[str] = ()) -> str:
    """Return the first mainland term in a zh-Hant text that its sources do not use themselves, or ""."""
    if language != "zh-Hant":
        return ""
    plain = _NOT_TERMS.sub("", _QUOTED.sub("", text))
    found = [match.group() for match in _TERMS.finditer(plain)]
    known = "\n".join(sources) if found else ""
    return next((term for term in found if term not in known), "")


def leaks(text: str) -> bool:
    """Whether a text that is to be zh-Hant holds Simplified characters or mainland terms."""
    return bool(simplified_only(text) or mainland_term(text))


def repair(text: str) -> str:
    """Return a text whose leaking sentences are in Taiwan's characters and words; the others stay as they are.

    A sentence that is Simplified throughout goes through OpenCC's s2twp; in a Traditional one only the Simplified
    characters change, because a table that starts from Simplified would turn 里長 into 裡長 beside them.
    """
    return "".join(_sentence(part) for part in _SENTENCES.findall(text))


def _sentence(text: str) -> str:
    if not leaks(text):
        return text
    hans, hant = script_characters()
    simplified, traditional = (sum(c in some for c in text) for some in (hans, hant))
    if simplified > traditional:
        text = converter("s2twp").convert(text)
    elif simplified:
        text = "".join(_character(text, at) if c in hans else c for at, c in enumerate(text))
    return _TERMS.sub(lambda found: TERMS[found.group()], text) if mainland_term(text) else text


def _character(text: str, at: int) -> str:
    """The Traditional form of one character, chosen with its neighbours in view (发现 and 头发)."""
    start = max(0, at - AROUND)
    return _window(text[start : at + AROUND + 1], at - start)


@lru_cache(maxsize=4096)
def _window(text: str, at: int) -> str:
    converted = converter("s2tw").convert(text)
    return converted[at] if len(converted) == len(text) else converter("s2tw").convert(text[at])


class ScriptRepair:
    """A client whose texts are counted by script and, in the mode `convert`, repaired before any rule sees them.

    Verdicts (log-probabilities) pass through; the ledger keeps what the model wrote. `converted` holds the ids of the
    calls that were changed, so that a row can say so.
    """

    def __init__(self, client: Client, mode: str = "reject", language: str = "zh-Hant"):
        if mode not in MODES:
            raise KyaraError(f"script_repair {mode!r} is none of {', '.join(MODES)}")
        self.client, self.mode, self.language = client, mode, language
        self.counts: Counter[str] = Counter()
        self.converted: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def ask(self, requests: Iterable[Request], label: str = "", **options: Any) -> list[Response]:
        """Ask, then count and repair; see `Client.ask`."""
        requests = list(requests)
        responses = self.client.ask(requests, label=label, **options)
        if self.language == "zh-Hant":
            for request, response in zip(requests, responses, strict=True):
                if response.text and not request.top_logprobs:
                    self._look(response)
        return responses

    def _look(self, response: Response) -> None:
        self.counts["texts"] += 1
        if not leaks(response.text):
            return
        self.counts["leaked"] += 1
        if self.mode == "convert":
            response.text = repair(response.text)
            self.converted.add(response.call_id)
            self.counts["left"] += leaks(response.text)

    def report(self) -> dict[str, Any]:
        """Texts written, share that leaked before and after repair, for the metrics of the step."""
        texts = self.counts["texts"]
        left = self.counts["left"] if self.mode == "convert" else self.counts["leaked"]
        rates = {"leak_rate": self.counts["leaked"], "leak_rate_after": left}
        shares = {name: round(count / texts, 4) if texts else 0.0 for name, count in rates.items()}
        return {"script_repair": self.mode, "texts": texts, "leaked": self.counts["leaked"]} | shares
