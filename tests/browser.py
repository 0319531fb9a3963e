"""A headless Chromium for tests and benches of pages: the system's own, since none is downloaded."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")
CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"
REACHABLE = f"""[...(document.querySelector("dialog[open]") ?? document).querySelectorAll("{CONTROLS}")]
    .filter(one => one.checkVisibility() && !one.disabled && one.tabIndex >= 0)"""


@contextmanager
def browser():
    """A running Chromium; playwright is imported here, so that collecting tests needs none."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield program
        program.close()


class Page:
    """A page of the report with what it complained of and asked for; `page` is playwright's own."""

    def __init__(self, program, folder: Path, width: int = 1280, scheme: str = "light"):
        self.folder, self.said, self.asked = folder, [], []
        context = program.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        self.page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _failed(self, request) -> None:
        """A picture that was still loading when the next page was opened has not failed."""
        if request.failure != "net::ERR_ABORTED":
            self.said.append(f"failed: {request.url}")

    def open(self, name: str) -> "Page":
        """Go to a page, and wait until its script is ready where it has one."""
        self.page.goto("about:blank")  # else a change of the hash alone would load nothing
        self.page.goto(f"{self.folder.as_uri()}/{name}")
        if name.startswith("rows"):
            self.page.wait_for_selector("html[data-ready]", timeout=60_000)
        return self

    def unreached(self) -> list[str]:
        """Controls that the tab key does not come to, by their markup; those of the dialog where one is open."""
        self.page.evaluate(f"window.wanted = new Set({REACHABLE})")
        for _ in range(self.page.evaluate("wanted.size") + 5):
            self.page.keyboard.press("Tab")
            self.page.evaluate("wanted.delete(document.activeElement)")
        return self.page.evaluate("[...wanted].map(one => one.outerHTML.slice(0, 80))")
