"""Laws of the page in a browser: what its script does when a reader clicks, and that nothing is refused on the way.

A copy of the page gets a second script, admitted by its digest, that clicks and leaves what it saw in the document.
"""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from experiment import experiment, write_complete

from microscopy_cls.config import Config
from microscopy_cls.reporting import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CLICKS = """
const seen = { errors: [] };
addEventListener("error", (event) => seen.errors.push(event.message));

const table = document.querySelector("#classes table.sortable");
const valueOf = (cell) => cell.dataset.value ?? cell.textContent;
const column = (index) => [...table.tBodies[0].rows].map((row) => valueOf(row.cells[index]));
const heading = (index) => table.tHead.rows[0].cells[index];
const click = (index) => heading(index).querySelector("button").click();
seen.first = column(0);
click(0); click(0);
seen.names = [heading(0).getAttribute("aria-sort"), column(0)];
click(3);
seen.precision = [heading(3).getAttribute("aria-sort"), column(3), heading(0).hasAttribute("aria-sort")];
click(3);
seen.turned = [heading(3).getAttribute("aria-sort"), column(3)];
heading(0).querySelector("button").focus();
seen.focus = document.activeElement.tagName;
seen.everyTable = [...document.querySelectorAll("table.sortable")].every((one) => one.tHead.querySelector("button"));

const form = document.querySelector("form.filters");
const pictures = [...form.parentElement.querySelectorAll("li")];
const choose = (key, value) => { form.elements[key].value = value; form.dispatchEvent(new Event("input")); };
const shown = () => [pictures.filter((one) => !one.hidden).length, form.querySelector("output").textContent];
seen.filters = { hidden: form.hidden, all: shown() };
choose("right", "0"); seen.filters.wrong = shown();
choose("predicted", "0"); seen.filters.wrongAsFirst = shown();
choose("right", ""); choose("predicted", ""); choose("truth", "1"); seen.filters.second = shown();
choose("truth", ""); choose("words", "00003 <B>"); seen.filters.words = shown();
choose("words", "nothing is called so"); seen.filters.none = shown();

document.querySelector("[data-copies] button").click();
dispatchEvent(new Event("beforeprint"));
seen.closed = [...document.querySelectorAll("details:not([open])")].map((one) => one.closest("section").id);
seen.sideways = document.documentElement.scrollWidth > innerWidth;
setTimeout(() => {
  seen.copied = document.querySelector("[data-copies] [role=status]").textContent;
  seen.selected = getSelection().toString().startsWith("We classified");
  document.body.dataset.seen = JSON.stringify(seen);
}, 50);
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]


def digest(script):
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def browse(page, folder, width_px):
    """Open a page in chromium, let the clicks happen; the document afterwards and what was logged."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={folder}", "--enable-logging=stderr", "--v=0",
        f"--window-size={width_px},900", "--virtual-time-budget=2000", "--dump-dom", page.absolute().as_uri(),
    ]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return answer.stdout, answer.stderr


@pytest.fixture(scope="module", params=[1300, 500])  # chromium's windows are no narrower than 500 px
def visit(request, tmp_path_factory):
    """What the clicks saw, and the console."""
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths = write_complete(experiment(num_wrong=5))
        metrics = json.loads(paths.metrics.read_text())
        for name, value in zip(metrics["classes"], (0.7, None, 0.9), strict=True):
            metrics["per_class"][name]["precision"] = {"value": value, "ci_low": None, "ci_high": None}
        paths.metrics.write_text(json.dumps(metrics))
        settings = Config.model_validate({"name": "tiny", "data": {"root": "raw"}})
        text = write_report(settings, paths).read_text(encoding="utf-8")
        text = re.sub(r"(script-src '[^']+')", lambda found: f"{found[1]} {digest(CLICKS)}", text, count=1)
        copy = Path("copy.html")
        copy.write_text(text.replace("</body>", f"<script>{CLICKS}</script></body>"), encoding="utf-8")
        document, log = browse(copy, folder / "profile", request.param)
    found = re.search(r'data-seen="([^"]*)"', document)
    assert found, log
    return json.loads(html.unescape(found[1])), log


def test_the_console_stays_silent(visit):
    seen, log = visit
    assert seen["errors"] == []
    assert "CONSOLE" not in log


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(visit):
    seen, _ = visit
    assert seen["first"] == ["alga", "ciliate", "diatom"]
    assert seen["names"] == ["descending", ["diatom", "ciliate", "alga"]]
    assert seen["precision"] == ["descending", ["0.9", "0.7", ""], False]
    assert seen["turned"] == ["ascending", ["0.7", "0.9", ""]]
    assert seen["everyTable"]


def test_headings_are_buttons_that_the_keyboard_reaches(visit):
    assert visit[0]["focus"] == "BUTTON"


def test_the_pictures_are_filtered_by_class_answer_rightness_and_words(visit):
    filters = visit[0]["filters"]
    assert not filters["hidden"]
    assert filters["all"] == [24, "24 of 24 shown"]
    assert filters["wrong"] == [5, "5 of 24 shown"]
    assert filters["wrongAsFirst"] == [1, "1 of 24 shown"]
    assert filters["second"] == [8, "8 of 24 shown"]
    assert filters["words"] == [1, "1 of 24 shown"]
    assert filters["none"] == [0, "0 of 24 shown"]


def test_copying_ends_in_the_clipboard_or_in_a_selection_and_says_which(visit):
    seen, _ = visit
    assert seen["copied"] in ("copied", "selected: copy it with Ctrl+C")
    assert seen["selected"]


def test_all_is_unfolded_for_print_but_the_pictures_to_look_through(visit):
    assert visit[0]["closed"] == ["browser"]


def test_the_page_never_scrolls_sideways(visit):
    assert not visit[0]["sideways"]
