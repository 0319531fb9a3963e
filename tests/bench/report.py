"""The report's page of rows with 100,000 of them, in a headless Chromium, from a folder on disk.

    make bench NAME=report          about four minutes on two cores, most of it to write the rows and their stories

Open: from the address to a page whose table, filters and search can be used. Search: from the words to the first page
of hits on the screen. Rows are drawn from sentences of the bundled corpus.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser import Page, browser  # noqa: E402
from record import Result, publish  # noqa: E402
from run_folder import finished_run  # noqa: E402

from kyara_utils.report.site.publish import write_report  # noqa: E402

ROWS, RUNS = 95_000, 5  # and their pairs make it 100,000
SEARCH = """async words => {
    const start = performance.now();
    form.search.value = words;
    new DataTable.Api("#rows").ajax.reload();
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    return performance.now() - start;
}"""


def main() -> None:
    """Write the folder, open it in fresh pages, search, publish."""
    opened, questions, whole = [], [], []
    with tempfile.TemporaryDirectory() as name:
        os.environ["KYARA_RUNS"] = name
        finished_run(Path(name) / "large", ROWS)
        begun = time.perf_counter()
        folder = write_report("large").parent
        written = time.perf_counter() - begun
        size = sum(path.stat().st_size for path in folder.rglob("*")) / 1e6
        with browser() as program:
            for number in range(RUNS):
                one = Page(program, folder)
                begun = time.perf_counter()
                one.open("rows.html")
                opened.append(time.perf_counter() - begun)
                questions.append(one.page.evaluate(SEARCH, f"第 {number + 7} 种茶叶"))
                one.page.check("[name=whole]")
                while not one.page.evaluate("!!whole"):
                    time.sleep(0.2)
                whole.append(one.page.evaluate(SEARCH, "摄氏九十度为宜【id_"))
                one.page.context.close()
    publish(
        "report",
        [
            Result("opening 100,000 rows", "s", opened, 2, False, note=f"{size:.0f} MB in all"),
            Result("searching their questions", "ms", questions, 300, False),
            Result("searching whole rows, once they are read", "ms", whole, 300, False),
            Result("writing the folder", "s", [written], None, False),
        ],
        ("playwright",),
    )


if __name__ == "__main__":
    main()
