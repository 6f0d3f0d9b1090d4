"""The web page in Chromium, which ``pip install PyQt6-WebEngine`` brings: skipped without it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from synthetic_records import write_comparison

from read_env.reporting import comparison_report
from read_env.reporting.markdown import markdown_table
from read_env.reporting.web_page import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (find_spec("PyQt6") and find_spec("PyQt6.QtWebEngineWidgets")), reason="no browser"),
]

# Loads a page at a width, runs a script and prints its JSON, with the console's messages up to then.
BROWSER = """
import json, sys
from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineCore import QWebEnginePage
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication
page_path, width, script = sys.argv[1:]
application, messages = QApplication(sys.argv[:1]), []
class Page(QWebEnginePage):
    def javaScriptConsoleMessage(self, level, message, line, source):
        messages.append(message)
view = QWebEngineView()
page = Page(view)
view.setPage(page)
view.resize(int(width), 900)
def done(result):
    print(json.dumps([json.loads(result), messages]))
    application.quit()
page.loadFinished.connect(lambda _: QTimer.singleShot(500, lambda: page.runJavaScript(script, done)))
view.show()
page.load(QUrl.fromLocalFile(page_path))
QTimer.singleShot(60_000, application.quit)
application.exec()
"""


def in_browser(page, script, width=1400):
    env = os.environ | {"QT_QPA_PLATFORM": "offscreen", "QTWEBENGINE_DISABLE_SANDBOX": "1"}
    env["QTWEBENGINE_CHROMIUM_FLAGS"] = "--disable-gpu"
    script = f"JSON.stringify((() => {{ {script} }})())"
    command = [sys.executable, "-c", BROWSER, str(page), str(width), script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    directory = write_comparison(tmp_path_factory.mktemp("browser") / "c", ("uniform", "task-static"), steps=4)
    return comparison_report(directory).with_suffix(".html")


def test_the_buttons_of_a_header_sort_upwards_downwards_and_as_in_the_report(tmp_path):
    cells = ["+0.100 ± 0.020", "–", "-0.300 ± 0.010", "< .001", ".002", "1,200", "[-0.2, +0.1]", "35.0 %", "−7"]
    names = [f"agent {n}" for n in range(10, 10 - len(cells), -1)]
    write_report(tmp_path, [markdown_table(["agent", "gain"], list(map(list, zip(names, cells, strict=True))))])
    script = """
        const buttons = document.querySelectorAll("th button");
        const state = (button) => {
            button.click();
            const [name, gain] = [...document.querySelectorAll("th")].map((head) => head.getAttribute("aria-sort"));
            return [name, gain, [...document.querySelectorAll("tbody tr")].map((row) => row.cells[button === buttons[1] ? 1 : 0].textContent)];
        };
        return [buttons[1], buttons[1], buttons[1], buttons[0], buttons[1]].map(state);
    """
    (up, down, again, by_name, _), messages = in_browser(tmp_path / "report.html", script)
    ordered = ["−7", "-0.300 ± 0.010", "[-0.2, +0.1]", "< .001", ".002", "+0.100 ± 0.020", "35.0 %", "1,200"]
    assert up == [None, "ascending", [*ordered, "–"]]
    assert down == [None, "descending", [*ordered[::-1], "–"]]
    assert again == [None, None, cells]
    assert by_name == ["ascending", None, names[::-1]], "agent 9 before agent 10"
    assert messages == []


def test_the_values_of_a_step_are_shown_under_the_pointer_and_by_the_arrow_keys(page):
    script = """
        const panel = document.querySelector(".panels svg[aria-label^=allocation]");
        panel.scrollIntoView();
        panel.focus();
        const box = document.querySelector(".values"), hidden = box.hidden, found = [];
        for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft", "Escape"]) {
            panel.dispatchEvent(new KeyboardEvent("keydown", { key }));
            found.push(box.hidden ? "" : box.textContent.split(":")[0]);
        }
        panel.blur();
        const last = [...panel.querySelectorAll(".stop")].at(-1);
        last.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 10, clientY: 10 }));
        return [hidden, found, box.textContent.split(":")[0], document.querySelectorAll(".stop > title").length];
    """
    (hidden, by_keys, under_pointer, titles), messages = in_browser(page, script)
    assert hidden and by_keys == [*(f"uniform, step {step}" for step in (1, 2, 1)), ""]
    assert under_pointer == "uniform, step 4" and titles == 0, "no second tooltip beside the box"
    assert messages == []


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_but_tables_and_pictures_is_wider_than_the_window(page, width):
    script = """
        const { scrollWidth, clientWidth } = document.documentElement;
        return [scrollWidth - clientWidth, [...document.images].every((image) => image.naturalWidth > 0)];
    """
    assert in_browser(page, script, width) == [[0, True], []]


def test_a_script_that_got_into_the_page_is_not_run(page, tmp_path):
    html = page.read_text().replace("</main>", "<script>document.title = 'run'</script></main>")
    (tmp_path / "report.html").write_text(html)
    title, messages = in_browser(tmp_path / "report.html", "return document.title")
    assert title == "Comparison of allocation agents" and "Content Security Policy" in messages[0]
