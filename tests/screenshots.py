"""Pictures of a recipe's report for the README: first screen, rows and a story, wide and light, narrow and dark.

    python -m kyara_utils report smoke && python tests/screenshots.py smoke

Needs a Chromium and a font with Chinese characters (Debian: `chromium fonts-noto-cjk`). Writes figures/report-*.png.
"""

import sys
from pathlib import Path

from browser import Page, browser

from kyara_utils.runs.env import find_root, runs_dir

SHOTS = (  # name, page, width, scheme, what to press
    ("front", "index.html", 1280, "light", ""),
    ("rows", "rows.html", 1280, "light", ""),
    ("story", "rows.html", 1280, "light", "#rows tbody button"),
    ("phone", "index.html", 390, "dark", ""),
)


def open_cited(page, buttons: str) -> None:
    """Open the first listed row whose answer cites a passage, and follow the citation; some rows say "not found"."""
    for number in range(page.locator(buttons).count()):
        page.click(f"{buttons} >> nth={number}")
        page.wait_for_selector("#story .assistant")
        if page.locator("#story .assistant button.cite").count():
            page.click("#story .assistant button.cite >> nth=0")
            page.wait_for_selector("#story mark")
            return
        page.keyboard.press("Escape")


def main(recipe: str) -> None:
    """Take every picture of `SHOTS`."""
    root = find_root()
    with browser() as program:
        for name, page, width, scheme, button in SHOTS:
            one = Page(program, runs_dir(root) / recipe / "report", width, scheme).open(page)
            if button:
                one.page.select_option("[name=source]", "rag_cited")
                one.page.wait_for_timeout(1000)
                open_cited(one.page, button)
            one.page.screenshot(path=Path(root, "figures", f"report-{name}.png"))
            print(f"figures/report-{name}.png")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smoke")
