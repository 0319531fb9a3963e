"""Simplified characters and mainland terms in text that is to be Traditional Chinese as Taiwan writes it.

Qwen and other models trained mostly on Simplified text slip into it in the middle of a sentence (什么, 设计), or write
the mainland's word in Traditional characters (軟件). Characters that both scripts use (么, 于, 后) tell only as part of
a word.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from kyara_utils.text.normalise import converter, script_characters

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
# Simplified words of characters that Traditional text has too, each with another meaning.
_WORDS = re.compile(
    r"[什怎那這这多要]么|(?<!皇)(?:以|之|然|最|今|前|随)后(?!土|妃)|后(?:来|面|果|续)|[这那哪]里|家里|里面|(?:位|由|基|對|对|處|处|屬|属)于"
    r"|(?:等|大|小|用|至|源|在|終|终|優|优|高|低|便|適|适|關|关)于|于是|并(?:且|不|非|在|将|由)|采(?:用|取|集|购)|[特象]征"
    r"|旅游|游客|制(?:造|作|品|成)|复制|示范|干(?:燥|净|扰|旱)|几(?:个|种|次|年|乎|何)|划分|谷物|稻谷|云端"
)
_QUOTED = re.compile(r"「[^」\n]{1,12}」|『[^』\n]{1,12}』|“[^”\n]{1,12}”|《[^》\n]{1,30}》|```.*?```", re.S)
_GLOSS = re.compile(r"[（(\[{【][^）)\]}】\n]*[）)\]}】]|`[^`\n]*`|https?://\S+|\$[^$\n]*\$|\"[^\"\n]*\"|'[^'\n]*'")
_ENGLISH = re.compile(
    r"(?:(?<=[\u4e00-\u9fff])|(?<=[\u4e00-\u9fff] ))(?:[a-z]{4,}|Taiwan)(?![A-Za-z0-9_@/-]|\.\w)"
    r"|(?<![A-Za-z0-9_.@/-])(?:[a-z]{4,}|Taiwan)(?= ?[\u4e00-\u9fff])"
)
_SENTENCES = re.compile(r"[^。！？!?\n]*[。！？!?\n]*")


def simplified_only(text: str) -> str:
    """Return the Simplified-only characters of a text outside short quotations, or else its Simplified words."""
    hans, _ = script_characters()
    plain = _QUOTED.sub("", text)
    return "".join(c for c in plain if c in hans) or "".join(found.group() for found in _WORDS.finditer(plain))


def mainland_term(text: str, language: str = "zh-Hant", sources: Iterable[str] = ()) -> str:
    """Return the first mainland term in a zh-Hant text that its sources do not use themselves, or ""."""
    if language != "zh-Hant":
        return ""
    plain = _NOT_TERMS.sub("", _QUOTED.sub("", text))
    found = [match.group() for match in _TERMS.finditer(plain)]
    known = "\n".join(sources) if found else ""
    return next((term for term in found if term not in known), "")


def english_word(text: str, language: str = "zh-Hant", sources: Iterable[str] = ()) -> str:
    """Return the first everyday English word within a Chinese clause (這種 animal 被指為) that no source has, or "".

    Qwen and other small models lapse into English where a Chinese word would do. Code, quotations, brackets (a gloss)
    and whatever has a capital, a digit or a mark of its own (iPhone, pH, x86, e.g.) do not count; Taiwan does. A
    strong teacher means its lower-case words (pandas, email), so the rule is for small ones.
    """
    if language != "zh-Hant":
        return ""
    found = [match.group() for match in _ENGLISH.finditer(_GLOSS.sub(" ", _QUOTED.sub("", text)))]
    known = "\n".join(sources).lower() if found else ""
    return next((word for word in found if word.lower() not in known), "")


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
    text = _WORDS.sub(lambda found: converter("s2tw").convert(found.group()), text)
    if any(c in hans for c in text):
        text = "".join(_character(text, at) if c in hans else c for at, c in enumerate(text))
    return _TERMS.sub(lambda found: TERMS[found.group()], text) if mainland_term(text) else text


def _character(text: str, at: int) -> str:
    """The Traditional form of one character, chosen with its neighbours in view (发现 and 头发)."""
    start = max(0, at - AROUND)
    return _window(text[start : at + AROUND + 1], at - start)


@lru_cache(maxsize=4096)
def _window(text: str, at: int) -> str:
    converted = converter("s2tw").convert(converter("t2s").convert(text))  # 頭发 is known as 头发 only
    return converted[at] if len(converted) == len(text) else converter("s2tw").convert(text[at])
