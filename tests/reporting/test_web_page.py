import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from synthetic_records import write_comparison, write_run

from read_env.reporting import comparison_report, run_report
from read_env.reporting.markdown import literal, markdown_table
from read_env.reporting.web_page import web_page
from read_env.reporting.web_pictures import agent_entries, line_panel

HOSTILE = "</td></title><script>alert(1)</script><img src=x onerror=alert(2)> ![p](http://example.com/p.png) **b** `c`"
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes, text within); complains of elements that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def __getitem__(self, tag):
        return [element for element in self.elements if element[0] == tag]

    def of_class(self, name):
        return [element for element in self.elements if element[1].get("class") == name]


def page_of(report):
    return Page(report.with_suffix(".html").read_text())


def hash_of(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    agents = ("read-bandit", "task-static", "water-filling", "random-candidate", "uniform", "one-hot-math")
    return comparison_report(write_comparison(tmp_path_factory.mktemp("web") / "c", agents, ("tickets",), range(2)))


def test_the_page_asks_nothing_of_anyone_and_allows_its_own_style_and_script_alone(comparison):
    page = page_of(comparison)
    policy = next(a["content"] for _, a, _ in page["meta"] if a.get("http-equiv") == "Content-Security-Policy")
    (style,), (script,) = page["style"], page["script"]
    assert policy.split("; ")[:4] == [
        "default-src 'none'", "img-src data:", f"style-src {hash_of(style[2])}", f"script-src {hash_of(script[2])}",
    ]  # fmt: skip
    assert script[1] == {} and page["link"] == page["iframe"] == []
    for tag, attributes, _ in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert re.fullmatch(r"[\w./]+", attributes.get("href", "runs.csv"))
    assert comparison.with_suffix(".html").stat().st_size < 2**21


def test_the_page_has_the_text_the_tables_and_the_pictures_of_the_markdown(comparison):
    text, page = comparison.read_text(), page_of(comparison)
    headings = [line.lstrip("# ").replace("`", "") for line in text.splitlines() if re.match("#+ ", line)]
    headings.remove("Configuration") if "Configuration" in headings else None
    assert [e[2] for e in page.elements if e[0] in ("h1", "h2", "h3")] == headings
    assert page["title"][0][2] == headings[0]
    assert len(page["table"]) == text.count("|:---") > 3
    pictures = re.findall(r"^!\[.*\]\((.*)\)$", text, re.M)
    assert len(page["img"]) + len(page.of_class("panels")) == len(pictures)
    for _, attributes, _ in page["img"]:
        data = base64.b64decode(attributes["src"].partition(",")[2])
        assert any((comparison.parent / name).read_bytes() == data for name in pictures)
    (details,), (summary,) = page["details"], page["summary"]
    assert '"step_tokens": 6000' in details[2] and summary[2] == "Configuration (config.json)"
    assert {"right", "left"} >= {a["class"] for tag, a, _ in page.elements if tag in ("td", "th")}


def test_every_step_of_every_agent_has_its_allocation(comparison):
    page = page_of(comparison)
    titles = [text for tag, _, text in page["title"] if ", step " in text.splitlines()[0]]
    shares = [
        t.splitlines() for t in titles if t.startswith(("uniform, step", "one-hot-math, step", "task-static, step"))
    ]
    assert len(shares) == 3 * 20
    first = {lines[0].partition(",")[0]: lines[1:] for lines in reversed(shares)}
    assert first["one-hot-math"] == ["math: 100.0 %"]
    assert sorted(first["task-static"]) == ["multilingual: 50.0 %", "tool use: 50.0 %"]
    assert len(first["uniform"]) == 10 and all(line.endswith(": 10.0 %") for line in first["uniform"])
    assert shares[-1][0].endswith(", step 20: 114,000 to 120,000 tokens")


def test_steps_of_curves_have_mean_and_interval_of_every_agent(comparison):
    (values,) = [text for _, _, text in page_of(comparison)["title"] if text.startswith("tickets, step 20:")][:1]
    steps = [json.loads(p.read_text().splitlines()[-1]) for p in comparison.parent.glob("runs/uniform__*/steps.jsonl")]
    mean = sum(step["utility"] for step in steps) / len(steps)
    assert len(values.splitlines()) == 7
    assert next(line for line in values.splitlines() if line.startswith("uniform: ")).startswith(
        f"uniform: {mean:.3f} ± "
    )


def test_values_that_do_not_change_and_agents_without_runs_are_drawn():
    steps = pd.DataFrame({"agent": "uniform", "path": "a", "step": [0, 1], "spent": [0, 600], "spillover_sum": 0.0})
    panel = line_panel("tickets", steps, "spillover_sum", agent_entries(["uniform", "oracle"]), 600.0, from_zero=True)
    assert Page(panel)["title"][1][2] == "tickets, step 1: 600 tokens\nuniform: 0.000"
    assert Page(panel)["text"][0][2] == "0.0000"
    absent = line_panel("tickets", steps, "spillover_sum", agent_entries(["oracle"]), 600.0)
    assert Page(absent)["rect"] == [] and Page(absent)["svg"]


def hostile_run(path):
    write_run(path, agent="uniform<script>", steps=2)
    start = json.loads((path / "start.json").read_text())
    start["task"] = "t<script>alert(1)</script>"
    start["samples"] = [
        {name: HOSTILE for name in ("prompt", "reference", "teacher", "student")} | {"capability": "code"}
    ]
    start["requirement"] = [0.1] * 10
    (path / "start.json").write_text(json.dumps(start))
    for name in ("summary.json", "config.json"):
        value = json.loads((path / name).read_text()) | {"task": start["task"], "agent": "uniform<script>"}
        value |= {"samples": [HOSTILE]} if name == "summary.json" else {}
        (path / name).write_text(json.dumps(value))
    steps = [json.loads(line) for line in (path / "steps.jsonl").read_text().splitlines()]
    steps[0]["skipped"] = [{"capability": "code", "prompt": HOSTILE, "reason": "<script>alert(3)</script>"}]
    (path / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return path


def test_names_prompts_and_completions_are_shown_and_never_run(tmp_path):
    report = run_report(hostile_run(tmp_path / "run"))
    page, html = page_of(report), report.with_suffix(".html").read_text()
    assert len(page["script"]) == 1 and html.lower().count("<script") == 1
    assert {a["src"][:15] for _, a, _ in page["img"]} == {"data:image/png;"} and "onerror=alert(2)>" not in html
    assert page["h1"][0][2] == "uniform<script> on t<script>alert(1)</script>, seed 0"
    assert page["title"][0][2] == page["h1"][0][2]
    cells = [text for tag, _, text in page["td"]]
    assert cells.count(HOSTILE) == 6, "five texts of the sample and the skipped prompt, character by character"
    assert "<script>alert(3)</script>" in cells


@pytest.mark.parametrize(
    "text", ["a|b", r"a\|b", "__init__ _x_ a_b", "&lt; &", "~~no~~ [a](b) <http://c.d>", r"\*", "![x](utility.png)"]
)
def test_literal_text_is_shown_character_by_character(tmp_path, text):
    (tmp_path / "utility.png").write_bytes(b"png")
    page = Page(web_page(markdown_table(["a", "b"], [[literal(text), "1"]]), tmp_path, {}))
    assert page["td"][0][2] == text and not page["img"]


def test_pictures_of_other_folders_are_not_taken_in(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_bytes(b"notes")
    for name in ("../secret.png", "notes.txt", "absent.png", "%2e%2e/secret.png", str(tmp_path / "secret.png")):
        page = Page(web_page(f"![picture]({name})", tmp_path / "run", {}))
        assert page["img"] == [] and page["em"][0][2] == "picture"


def test_only_the_lines_that_fold_a_part_away_are_html(tmp_path):
    page = Page(web_page("<details open><summary>x</summary>\n\n<b>no</b>\n\n<!-- no", tmp_path, {}))
    assert page["details"] == page["b"] == [] and "<!-- no" in page["main"][0][2]


def test_agents_that_stop_before_their_first_step_have_empty_panels(tmp_path, no_pictures):
    path = write_comparison(tmp_path / "c", ("task-static", "uniform"), seeds=range(2), steps=2)
    for number, agent in enumerate(("uniform", "task-static")):
        for run in path.glob(f"runs/{agent}__*"):
            (run / "steps.jsonl").write_text("")
            summary = json.loads((run / "summary.json").read_text())
            (run / "summary.json").write_text(json.dumps(summary | {"steps": 0, "spent": 0, "left_tokens": 12_000}))
        page = page_of(comparison_report(path))
        shown = [text.partition(",")[0] for _, _, text in page["title"] if "to 6,000 tokens" in text]
        assert shown == (["task-static"], [])[number]
        assert {"task-static", "uniform"} <= {text for _, _, text in page["h4"]}


def test_an_unfinished_run_has_a_page(tmp_path):
    path = write_run(tmp_path / "run", steps=3, stop_after=1)
    assert "This run is unfinished" in page_of(run_report(path))["main"][0][2]
    (path / "steps.jsonl").write_text("")
    assert page_of(run_report(path)).of_class("panels") == []
    (path / "start.json").unlink()
    (path / "steps.jsonl").unlink()
    assert "not started" in page_of(run_report(path))["main"][0][2]
