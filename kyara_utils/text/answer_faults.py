"""Two faults that writing and filtering both look for: an answer that declines, and one that stops in mid-sentence.

Both are judged by what is said and not by form: 無法提供足夠的電流 is a statement about a battery, and an answer may
end in a list item, a table row, a formula or a per cent.
"""

import re

REFUSAL_CHARACTERS = 80  # WizardLM: fewer than 80 words; a Chinese answer is counted in characters

_APOLOGY = re.compile(
    r"\A\W*(?:(?:我|真的|非常|很|十分|深感)*(?:抱歉|對不起|不好意思)|(?:i'?m |i am )?(?:very |so )?sorry\b)",
    re.I,
)
_DECLINE = re.compile(
    r"(?:\A|[，。！,!]\s*)(?:因此|所以|故|但|而)?(?:我們?|目前|本人|這個問題|此問題)?(?:無法|不能|沒辦法"
    r"|沒有辦法)(?:從|根據|由|依|直接|準確|明確|給出|為您|為你|對此)?.{0,12}?"
    r"(?:回答|作答|回覆|(?:判斷|得知|確定|確認)(?:答案|確切|具體|您|你|[這此]個?問題|正確|。|，|\Z)|提供.{0,8}"
    r"(?:資訊|答案|協助|服務|建議|說明|細節|資料|幫助)|協助(?:您|你)|幫(?:您|你)|滿足(?:您|你))"
    r"|(?:\A|[，。！,!]\s*)(?:但|根據|依據)?(?:您|你|所|上述|以上|目前|現有)*(?:提供的?)?(?:參考)?(?:資料|文件"
    r"|文章|內容|文中)(?:資訊)?(?:裡|中|內)?[，,]?.{0,6}(?:沒有|並未|未|無|缺乏|不包含|沒)(?:有)?(?:提及|提到"
    r"|說明|提供|記載|相關|足夠|涉及|指出)"
    r"|\b(?:i|we) (?:can'?t|cannot|can not|am unable to|are unable to|don'?t know|do not know)\b"
    r"|\bthe (?:source|document|text|material|passage|context)s? (?:does|do) not\b",
    re.I,
)
_ENDED = re.compile(r"[。！？!?.…⋯」』）)\]】》〉”\"’'|}`$%％;；~～→℃°🙂-🫿🌀-🗿]\**\s*\Z")
_ITEM = re.compile(
    r"\s*(?:[-*•・+①-⑳❶-❿]|\d{1,2}[.、)]|[（(]?[一二三四五六七八九十]{1,2}[、)）]|[（(]\d{1,2}[)）]|\|)\s*\S"
)
_MARK_ALONE = re.compile(r"\s*(?:[-*•・+]|\d{1,2}[.、)])\s*")
_AMOUNT = re.compile(r"\d\s*(?:[a-zA-Zµμ/²³]{1,8}|[\u4e00-\u9fff]{1,3})?\**\s*\Z")
_HANGING = re.compile(
    r"(?:[，、：,:]|的|和|與|及|以及|而|但|因為|由於|包括|例如|如|是|在|被|把|將|並|或|\b(?:and|or|the|of|to|a"
    r"|is|in|with|because))\s*\Z",
    re.I,
)


def declined(text: str, language: str = "zh-Hant") -> str:
    """How the answer declines, or "": an apology or inability opens it, and it is short or declines at once.

    無法提供足夠的電流 is a statement about a battery; what counts is who is unable and what to.
    """
    text = text.replace("’", "'")
    size = len(text) if language == "zh-Hant" else len(text.split())
    opening = "".join(re.split(r"(?<=[。！？!?])|(?<=\.)\s", text)[:2])[:120]
    declined = _DECLINE.search(opening)
    if (apology := _APOLOGY.search(text)) and (size < REFUSAL_CHARACTERS or declined):
        return apology.group()
    return declined.group() if declined and size < 2 * REFUSAL_CHARACTERS else ""


def unfinished(text: str) -> str:
    """Where the text stops in mid-sentence, or "".

    A list item, a table row, a bold line, a formula, code and an amount (37.5 %, 1824 年) are ways to end.
    """
    last = next((line for line in reversed(text.rstrip().splitlines()) if line.strip()), "")
    if text.count("```") % 2:
        return "an open code block"
    if _MARK_ALONE.fullmatch(last):
        return f"an empty list item {last.strip()}"
    if not last or _ENDED.search(last):
        return ""
    ended = _ITEM.match(last) or re.match(r"\s*(?:#|\*\*)", last) or _AMOUNT.search(last)
    return "" if ended and not _HANGING.search(last) else f"ends with {text.rstrip()[-12:]}"
