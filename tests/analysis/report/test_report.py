import ast
import base64
import csv
import html
import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from html.parser import HTMLParser
from subprocess import run as run_process

import matplotlib
import numpy as np
import pytest
import yaml
from matplotlib import pyplot

from basinet.analysis.measures import MEASURES
from basinet.analysis.report.gallery import gallery
from basinet.analysis.report.page import table_html, write_page
from basinet.analysis.report.report import write_report
from tests.browser import CHROMIUM, Browser

STRATEGIES = {
    "centralized": {"name": "centralized"},
    "consensus": {"name": "consensus"},
    "atc": {"name": "diffusion", "order": "atc"},
    "cta": {"name": "diffusion", "order": "cta"},
}
SPECIAL = {
    (32, "consensus"): {"diverged": {3: 150}},
    (256, "cta"): {"state": "interrupted", "last": 400},
}
AGENTS = 12


def config(strategy, batch_size):
    return {
        "task": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}},
        "model": {"name": "mlp", "hidden": [32]},
        "topology": {"name": "ring", "agents": AGENTS, "policy": "metropolis"},
        "strategy": strategy,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0},
        "schedule": {"name": "cosine"},
        "batch_size": batch_size,
        "steps": 1000,
        "replicas": 5,
        "seed": 0,
        "runtime": {"name": "inline", "device": "cpu", "dtype": "float32"},
        "evaluate_every": 50,
        "analysis": ["hessian_trace", "hessian_top_eigenvalue", "excess_risk"],
    }


def measurements(rng, shift, flat, *, centralized, last, diverged):
    level = rng.normal(0, 0.004)
    for step in range(0, last + 1, 50):
        decay = np.exp(-step / 180)
        loss = (2.3 * decay + 0.02 + shift / 5 + 0.01 * rng.random()) * (50 if step >= diverged else 1)
        row = {"step": step, "epoch": step / 45, "communicated_bytes": step * 4096, "train_loss": loss}
        row |= {"test_loss": loss * 1.1, "test_accuracy": 0.97 - 0.87 * decay - shift + level}
        row |= {"gradient_norm": decay + 0.01}
        row["consensus_distance"] = 0.0 if centralized or step == 0 else 0.05 * (decay + 0.01) * rng.lognormal()
        if step >= diverged:
            yield {"step": step, "train_loss": float("nan")}
            return
        if step == 1000:
            trace = flat * rng.lognormal(0, 0.1)
            row |= {"hessian_trace": trace, "hessian_trace_error": trace / 50}
            row |= {"hessian_top_eigenvalue": trace / 9 * rng.lognormal(0, 0.1)}
            row |= {"excess_risk": 2e-4 * 1000 / flat * rng.lognormal(0, 0.4)}
            row |= {"excess_risk_gradient_norm": 1e-6}
        yield row


def write_run(path, settings, rng, *, shift, flat, state="done", last=1000, diverged=None):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    diverged = diverged or {}
    centralized = settings["strategy"]["name"] == "centralized"
    with open(path / "metrics.jsonl", "w") as file:
        for replica in range(5):
            end = diverged.get(replica, 10**9)
            rows = measurements(rng, shift, flat, centralized=centralized, last=last, diverged=end)
            file.writelines(json.dumps(row | {"replica": replica}) + "\n" for row in rows)
    status = {"state": state, "step": last, "steps": 1000, "diverged": diverged, "engine": "inline"}
    (path / "status.json").write_text(json.dumps(status))
    ring = [(k, (k + move) % AGENTS, 1 / 3) for k in range(AGENTS) for move in (-1, 0, 1)]
    lines = [f"{receiver},{sender},{weight}" for receiver, sender, weight in ring]
    (path / "topology.csv").write_text("\n".join(["receiver,sender,weight", *lines]) + "\n")
    held = np.random.default_rng(7).dirichlet([0.3] * AGENTS, size=10)
    lines = [f"0,{k},{label},{int(140 * held[label, k])}" for k in range(AGENTS) for label in range(10)]
    (path / "partition.csv").write_text("\n".join(["replica,agent,label,samples", *lines]) + "\n")


def keep_only(path, *metrics):
    """Leave few figures to draw."""
    (path / "partition.csv").unlink()
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: row[key] for key in ("step", "replica", *metrics)} for row in rows]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def write_experiment(folder):
    """Two batch sizes by four strategies by five replicas; one replica diverged, one run is unfinished."""
    rng = np.random.default_rng(0)
    runs = []
    for batch_size in (32, 256):
        for index, (name, strategy) in enumerate(STRATEGIES.items()):
            extra = SPECIAL.get((batch_size, name), {})
            flat = batch_size**0.5 * (200 - 40 * index)
            settings = config(strategy, batch_size)
            shift = batch_size / 8000 + (0.01 if index == 0 else 0.0)
            runs.append(f"{name}-{batch_size}")
            write_run(folder / runs[-1], settings, rng, shift=shift, flat=flat, **extra)
    whole = config(list(STRATEGIES.values()), [32, 256])
    whole |= {"runs": runs, "versions": {"basinet": "0.1.0", "torch": "2.13.0", "python": "3.11.7"}}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    return folder


class Page(HTMLParser):
    """Collects links, text and how elements are nested."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.links, self.texts, self.open, self.tags, self.descriptions = [], [], [], [], []
        self.html = text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.descriptions += [value for name, value in attrs if name in ("aria-label", "alt")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))


@pytest.fixture
def without_figures(monkeypatch):
    """Leave out the figures, which take most of the time, where the text is the matter."""
    monkeypatch.setattr("basinet.analysis.report.report.gallery", lambda runs: [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_experiment(tmp_path_factory.mktemp("runs") / "batch & size")
    before = dict(matplotlib.rcParams)
    assert write_report(folder, svg=True) == folder / "report.html"
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text())


def test_every_figure_has_its_files(folder):
    names = "flatness_accuracy flatness_accuracy_eigenvalue risk_flatness train_loss test_accuracy consensus"
    names = [*names.split(), "iso_accuracy", "topology", "partition"]
    files = {f"{name}.{suffix}" for name in names for suffix in ("png", "svg", "csv")}
    assert {path.name for path in (folder / "figures").iterdir()} == files
    for path in (folder / "figures").iterdir():
        start = {".png": b"\x89PNG", ".svg": b"<?xml"}.get(path.suffix, b"")
        assert path.read_bytes().startswith(start)
    with open(folder / "figures" / "flatness_accuracy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 5 - 1 - 5
    assert float(rows[0]["hessian_trace"]) > 0
    assert (folder / "summary.csv").exists()


def test_page_is_whole_by_itself(page):
    assert page.open == []
    assert page.tags.count("svg") == 9
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert {"link", "iframe"}.isdisjoint(page.tags) and page.tags.count("script") == 1


def test_pictures_take_the_colours_of_the_page(folder, page):
    pictures = dict(zip(page.descriptions, re.findall(r"<svg.*?</svg>", page.html, re.DOTALL), strict=True))
    for picture in pictures.values():
        assert "#000000" not in picture and "#ffffff" not in picture and "currentColor" in picture
    (held,) = [picture for description, picture in pictures.items() if "Who holds what" in description]
    assert "#010101" in held and "#fefefe" in held  # numbers on coloured cells stay as they are
    assert len(page.html) < sum(path.stat().st_size for path in (folder / "figures").glob("*.svg"))
    # The files stand by themselves: black on white.
    assert "fill: #ffffff" in (folder / "figures" / "train_loss.svg").read_text()


def test_pictures_are_described(page):
    titles = re.findall(r"<h3>(.*?)</h3>", page.html)
    assert len(set(page.descriptions)) == len(titles) == 9
    for description, title in zip(page.descriptions, map(html.unescape, titles), strict=True):
        assert description.startswith(f"{' '.join(title.split())}. ") and len(description) > 2 * len(title)
    (first,) = [text for text in page.descriptions if text.startswith("Test accuracy against Hessian trace")]
    assert "Horizontal axis: Hessian trace Tr H (smaller is flatter)." in first
    assert "Vertical axis: test accuracy (fraction correct)." in first
    assert "Panels: batch_size=32; batch_size=256." in first
    assert "Shown: centralized; consensus; diffusion ATC; diffusion CTA." in first
    assert re.search(
        r"Hessian trace Tr H is lowest for diffusion CTA, batch_size=32 \(\d+\) and highest for cen", first
    )


def test_rows_say_their_headings_on_narrow_screens(page):
    for table in re.findall(r'<table class="numbers">.*?</table>', page.html, re.DOTALL):
        first, *others = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', table)
        assert first
        others = [heading.replace("\N{NO-BREAK SPACE}", " ") for heading in others]
        rows = re.findall(r'<tr><th scope="row">.*?</tr>', table)
        assert rows and all(re.findall(r'data-label="(.*?)"', row) == others for row in rows)
        assert table.count("<tr") == len(rows) + 1 + table.count('<tr class="group">')


CELLS = "[...document.querySelectorAll('table')].map(table => [...table.rows].map(row => [...row.cells].map("
SHOWN = CELLS + "cell => cell.checkVisibility() && cell.textContent).filter(Boolean)))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs the browser chromium")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def shown(browser, tmp_path):
    """Show tables on a page."""

    def show(*tables, fragment=""):
        template = tmp_path / "template.html"
        template.write_text("$table")
        page = write_page(tmp_path / "page.html", template, {"title": "t", "lead": "", "table": "\n".join(tables)})
        browser.open(page.as_uri() + fragment)
        browser.wait("document.readyState === 'complete' && !!document.querySelector('table.sortable')")
        return browser

    browser.said.clear()
    browser.look()
    yield show
    assert not browser.said


def test_tables_are_sorted_by_a_click(shown):
    cells = ["0.9 ± 0.1", "(1.20 ± 0.03)e-5", "–", "0.012", "(3.0 ± 0.2)e5", "∞", "−2.5", "1e-05", ""]
    rows = [["first", f"{place}", cell] for place, cell in enumerate(cells)] + [
        ["second", "9", "2"],
        ["second", "10", "1"],
    ]
    page = shown(table_html(["condition", "strategy", "accuracy ↑"], rows, numbers=[2], grouped=True))
    rising = ["−2.5", "1e-05", "(1.20 ± 0.03)e-5", "0.012", "0.9 ± 0.1", "(3.0 ± 0.2)e5", "∞"]
    for said, wanted, two in (("ascending", rising, ["1", "2"]), ("descending", rising[::-1], ["2", "1"])):
        page.run("document.querySelectorAll('thead button')[1].click()")
        assert page.run("document.querySelectorAll('thead th')[1].getAttribute('aria-sort')") == said
        found = page.run(CELLS + "cell => cell.textContent)))")[0]
        last = [row[-1] for row in found[2:]]  # each group by itself, what is missing last
        assert last == [*wanted, "–", "", "second", *two] and found[1] == ["first"]


@pytest.mark.parametrize("width", [1280, 390])
def test_columns_are_chosen(shown, width):
    headings = ["condition", "strategy", "accuracy ↑", "loss & more ↓", "steps"]
    rows = [["first", name, "0.9", "0.1", "8"] for name in "abc"]
    tables = [table_html(headings, rows, numbers=[2, 3, 4], grouped=grouped) for grouped in (True, False)]
    page = shown(*tables)
    page.look(width)
    boxes = "[...document.querySelectorAll('.columns input')]"
    offered = page.run(f"{boxes}.map(box => box.value)")
    assert offered == ["accuracy ↑", "loss & more ↓", "steps", "strategy", "accuracy ↑", "loss & more ↓", "steps"]
    page.run(f"{boxes}[1].click(); {boxes}[2].click()")
    wanted = [[["accuracy\N{NO-BREAK SPACE}↑"], ["0.9"], ["0.9"], ["0.9"]]] * 2

    def numbers():
        return [[row[-1:] for row in table if row != ["first"]] for table in page.run(SHOWN)]

    assert numbers() == wanted
    assert page.run("document.querySelector('.group th').colSpan") == 2
    fragment = page.run("location.hash")
    page.run("document.querySelectorAll('thead button')[1].click()")  # sorting and columns do not meet
    assert numbers() == wanted
    shown(*tables, fragment=fragment)  # the address keeps the columns
    assert numbers() == wanted and page.run(f"{boxes}.map(box => box.checked)")[:3] == [True, False, False]
    page.run(f"{boxes}[1].click(); {boxes}[2].click()")
    assert [table[-1][-1] for table in numbers()] == ["8"] * 2
    shown(*tables, fragment="#elsewhere")
    assert [table[-1][-1] for table in numbers()] == ["8"] * 2


def test_what_is_shown_is_printed(shown, folder):
    page = shown(table_html(["a", "b", "c", "d"], [["w", "1", "2", "3"]] * 3, numbers=[1, 2, 3]), fragment="#without=c")
    page.look(dark=True, media="print")
    style = "getComputedStyle(document.querySelector('{}'))"
    assert page.run(SHOWN)[0][1:] == [["w", "1", "3"]] * 3
    assert not page.run("document.querySelector('.columns').checkVisibility()")
    # Chromium repeats a heading on each page only if it may not be broken, and draws no buttons in it.
    assert page.run(f"{style.format('thead')}.breakInside") == "avoid"
    assert page.run(f"{style.format('thead button')}.display") == "contents"
    assert page.run(f"{style.format('body')}.backgroundColor") == "rgb(255, 255, 255)"
    page.open((folder / "report.html").as_uri())
    page.wait("document.readyState === 'complete' && !!document.querySelector('svg')")
    page.look(703, 1000, media="print")  # the paper between its margins, at 96 pixels per inch
    scales_of = (
        "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
    )
    # A point of a figure is a point on paper, or little less.
    scales = page.run(scales_of)
    assert len(scales) == 9 and min(scales) > 0.8 * 96 / 72
    page.look(390)
    scales = page.run(scales_of)
    assert min(scales) > 1 and page.run("document.documentElement.scrollWidth") <= 390


def test_pictures_are_legible_on_paper_and_on_phones(browser, kept):
    page = browser
    page.open((kept / "report.html").as_uri())
    page.wait("document.readyState === 'complete' && !!document.querySelector('img')")
    scale = "(i => i.getBoundingClientRect().width / (i.naturalWidth * 72 / 130))(document.querySelector('img'))"
    page.look(703, 1000, media="print")
    assert 0.8 * 96 / 72 < page.run(scale) < 1.01 * 96 / 72
    page.look(390)
    assert page.run(scale) > 1 and page.run("document.documentElement.scrollWidth") <= 390
    ratio = "(i => i.clientWidth * i.naturalHeight / i.clientHeight / i.naturalWidth)(document.querySelector('img'))"
    assert abs(page.run(ratio) - 1) < 0.02


def test_numbers_are_whole(page):
    for cell in re.findall(r'<td class="number"[^>]*>(.*?)</td>', page.html):
        assert re.fullmatch(r"<span>[^<]+</span>( <span>(± |to )[^ <]+</span>)?|", cell)


def test_page_says_what_happened(page):
    assert "7 of 8 runs finished." in page.text
    assert "consensus, batch_size=32: 1 of 5 replicas diverged at step 150." in page.text
    assert "diffusion CTA, batch_size=256: interrupted at step 400 of 1000." in page.text
    assert "centralized · consensus · diffusion (order=atc) · diffusion (order=cta)" in page.text
    assert "torch 2.13.0" in page.text
    assert "gradient norm of 1e-06" in page.text
    assert "basinet run 'batch & size/experiment.yaml' --out 'batch & size-again'" in page.text


def test_page_compares_pairs(page):
    (group,) = re.findall(r"<tbody>\s*<tr[^>]*><th[^>]*>Test accuracy.*?</tbody>", page.html, re.DOTALL)
    rows = re.findall(r"<tr><th[^>]*>consensus − centralized</th>(.*?)</tr>", group)
    cells = [[re.sub(r"</?span>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]
    assert cells and all(re.fullmatch(r"[+-][\d.]+ ± [\d.]+", amount) for _, amount, *_ in cells)
    assert [(condition, pairs) for condition, _, _, pairs, _ in cells] == [
        ("batch_size=32", "4"),
        ("batch_size=256", "5"),
    ]
    assert "95 % interval" in page.text


def test_a_second_report_is_the_same(tmp_path):
    folder = tmp_path / "one"
    write_run(folder, config({"name": "consensus"}, 32), np.random.default_rng(1), shift=0, flat=1, last=50)
    for table in ("topology.csv", "partition.csv"):
        (folder / table).unlink()
    write_report(folder)
    kept = {path: path.read_bytes() for path in [folder / "report.html", *(folder / "figures").iterdir()]}
    write_report(folder)
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_folder_whose_name_is_no_text_has_a_report(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    write_run(folder, config({"name": "consensus"}, 32), np.random.default_rng(1), shift=0, flat=1, last=50)
    keep_only(folder, "train_loss")
    assert "<h1>?</h1>" in write_report(folder).read_text(encoding="utf-8")


def change_measurement(folder):
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 50, "replica": 0, "train_loss": 1.5}\n')


def change_table(folder):
    (folder / "topology.csv").write_text("receiver,sender,weight\n0,0,0.5\n0,1,0.5\n1,0,0.5\n1,1,0.5\n")


def damage_picture(folder):
    page = folder / "report.html"
    page.write_bytes(page.read_bytes().replace(b"base64,", b"base\xff,", 1))


CHANGES = {
    "nothing": (lambda folder: None, 0),
    "the page alone": (lambda folder: (folder / "report.html").unlink(), 1),
    "a measurement": (change_measurement, 1),
    "a table": (change_table, 1),
    "a figure is gone": (lambda folder: (folder / "figures" / "train_loss.csv").unlink(), 1),
    "a figure is another": (lambda folder: (folder / "figures" / "train_loss.png").write_bytes(b""), 1),
    "a picture in the page": (damage_picture, 1),
    "how figures look": (lambda folder: matplotlib.rcParams.update({"lines.linewidth": 3.0}), 1),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run of a few figures with its report, which is moved away."""
    folder = tmp_path_factory.mktemp("reported") / "one"
    write_run(folder, config({"name": "consensus"}, 32), np.random.default_rng(1), shift=0, flat=1, last=50)
    keep_only(folder, "train_loss")
    write_report(folder)
    return folder.rename(folder.with_name("kept"))


@pytest.fixture
def reported(kept):
    """The run where its report was written."""
    folder = shutil.copytree(kept, kept.with_name("one"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", CHANGES)
def test_figures_are_drawn_again_only_after_a_change(reported, monkeypatch, what):
    folder = reported
    first = (folder / "report.html").read_text()
    calls = []
    monkeypatch.setattr("basinet.analysis.report.report.gallery", lambda runs: calls.append(1) or gallery(runs))
    change, draws = CHANGES[what]
    with matplotlib.rc_context():
        change(folder)
        second = write_report(folder).read_text()
    assert len(calls) == draws
    assert (second == first) == (what not in ("a measurement", "a table", "how figures look"))
    write_report(folder)
    assert all(path.stat().st_size for path in (folder / "figures").iterdir())


def test_figures_are_drawn_as_svg_once_it_is_asked_for(reported):
    figures, page = reported / "figures", reported / "report.html"
    asked = base64.b64encode((figures / "train_loss.png").read_bytes()).decode()
    assert {path.suffix for path in figures.iterdir()} == {".csv", ".png"}
    (picture,) = (found for found in re.findall(r"<img [^>]*>", page.read_text()) if asked in found)
    assert re.search(r'alt="Training loss over the steps\. Horizontal axis: [^"]+"', picture)
    assert "<svg" not in page.read_text()
    write_report(reported, svg=True)
    drawn = page.read_text()
    assert (figures / "train_loss.svg").exists() and "<svg" in drawn and "<img" not in drawn
    write_report(reported)  # which finds nothing to draw
    assert page.read_text() == drawn
    change_measurement(reported)
    before = (figures / "train_loss.svg").read_bytes()
    write_report(reported)
    assert (figures / "train_loss.svg").read_bytes() != before and "<img" not in page.read_text()


def test_only_what_was_measured_is_explained(tmp_path, page):
    rng = np.random.default_rng(1)
    settings = config({"name": "consensus"}, 32) | {"analysis": [], "about": "Run `basinet <x>`.\n\nThen rest."}
    write_run(tmp_path / "one", settings, rng, shift=0, flat=1, last=50)
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(settings | {"runs": ["one"]}))
    plain = Page(write_report(tmp_path).read_text())
    for text in ("Hessian", "flatness", "xcess risk", "descent"):
        assert text in page.text and text not in plain.text
    assert "Losses and accuracy are those of the centroid." in plain.text
    assert '<p class="about">Run <code>basinet &lt;x&gt;</code>.</p>\n<p class="about">Then rest.</p>' in plain.html


def test_of_many_runs_the_best_come_first(tmp_path):
    rng, runs = np.random.default_rng(1), []
    for index, name in enumerate(STRATEGIES):
        for number in range(11):
            settings = config(STRATEGIES[name], 32)
            settings["optimizer"]["lr"] = 2.0**number / 1024
            runs.append(f"{name}-{number}")
            shift = 0.01 * index + 0.02 * abs(number - 6)
            write_run(tmp_path / runs[-1], settings, rng, shift=shift, flat=1)
            keep_only(tmp_path / runs[-1], "train_loss", "test_accuracy")
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(config(list(STRATEGIES.values()), 32) | {"runs": runs}))
    page = Page(write_report(tmp_path).read_text())
    assert "Of 44 runs the best of each strategy by test accuracy, best first." in page.text
    tables = re.findall(r"<table class=\"numbers\">.*?</table>", page.html, re.DOTALL)
    rows = [re.findall(r'<th scope="row">(.*?)</th>', table) for table in tables]
    assert rows[0] == ["centralized", "consensus", "diffusion ATC", "diffusion CTA"]
    assert tables[0].count(">optimizer.lr=0.0625</td>") == 4
    assert [len(texts) for texts in rows[1:]] == [44, 6, 66]  # all runs, the best compared, all compared
    assert page.tags.count("details") == 2
    assert page.tags.count("img") == 2 + 2 + 1  # against the rate, of the best, the topology
    with open(tmp_path / "figures" / "sweep_test_accuracy.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 44
    (sweep,) = [text for text in page.descriptions if text.startswith("Test accuracy against optimizer.lr")]
    assert "highest for centralized at optimizer.lr=0.0625" in sweep
    (curves,) = [text for text in page.descriptions if text.startswith("Training loss over the steps")]
    assert "Panels" not in curves and "Shown: centralized; consensus; diffusion ATC; diffusion CTA." in curves
    assert "of 44 runs, the best of each strategy, all with optimizer.lr=0.0625." in page.text


def test_text_of_users_is_escaped(tmp_path):
    settings = config({"name": "<b>mine</b>"}, 32) | {"analysis": []}
    folder = tmp_path / "<i>"
    rng = np.random.default_rng(1)
    write_run(folder / "one", settings, rng, shift=0, flat=1, state="failed", last=50)
    (folder / "one" / "topology.csv").unlink()
    status = {"state": "failed", "step": 50, "steps": 1000, "error": "a < b & <script>"}
    (folder / "one" / "status.json").write_text(json.dumps(status))
    (folder / "experiment.yaml").write_text(yaml.safe_dump(settings | {"runs": ["one", "<two>"]}))
    page = Page(write_report(folder).read_text())
    assert page.open == []
    assert {"b", "i"}.isdisjoint(page.tags) and page.tags.count("script") == 1
    assert "<b>mine</b>: failed after step 50 of 1000 (a < b & <script>)." in page.text
    assert "<two>: not started." in page.text
    assert "0 of 2 runs finished." in page.text
    assert not (folder / "figures" / "flatness_accuracy.png").exists()


@pytest.mark.parametrize("of_run", [False, True])
def test_what_came_from_python_is_not_repeated_by_a_command(tmp_path, without_figures, of_run):
    settings = config({"name": "consensus"}, 32) | {"model": "torch.nn.modules.linear:Linear 0123456789abcdef"}
    write_run(tmp_path / "e" / "one", settings, np.random.default_rng(1), shift=0, flat=1, last=50)
    record = {"objects": ["model"], "runs": ["one"]}
    (tmp_path / "e" / "experiment.yaml").write_text(yaml.safe_dump(settings | record))
    folder = tmp_path / "e" / "one" if of_run else tmp_path / "e"
    text = html.unescape(write_report(folder).read_text())
    (call,) = re.findall(r"<pre><code>(.*?)</code></pre>", text, flags=re.DOTALL)
    assert "basinet run" not in text and "were given as model: run the script that passed them again" in text
    (given,) = [node for node in ast.walk(ast.parse(call)) if isinstance(node, ast.Call)]
    values = {word.arg: ast.literal_eval(word.value) for word in given.keywords}
    assert values == {**settings, "model": ..., "out": f"{folder.name}-again"}


def test_a_run_without_measurements(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config({"name": "consensus"}, 32)))
    page = Page(write_report(tmp_path).read_text())
    assert "There is nothing to draw yet." in page.text
    assert "consensus: running at step 0 of 1000." in page.text
    assert "basinet run" in page.text


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({"analysis_samples": None}, "over all samples."),
        ({"analysis_samples": 32}, "over 32 fixed samples (all if there are no more)."),
        (
            {"analysis_samples": 32, "measured_batch": 6},
            "over 32 fixed samples (all if there are no more) in fixed batches of 6.",
        ),
        ({"analysis_samples": None, "measured_batch": None}, "over all samples as one batch."),
        ({"analysis_samples": None, "analysis_mode": "training"}, "over all samples in training mode."),
    ],
)
def test_what_was_measured_and_how_is_told(tmp_path, without_figures, settings, data):
    write_run(tmp_path / "one", config({"name": "consensus"}, 32), np.random.default_rng(1), shift=0, flat=1)
    rows = [json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    named = {name: asdict(MEASURES[name].quantities[name]) for name in ("gauss_newton_trace", "gradient_noise_trace")}
    rows = [row | dict.fromkeys(named, 1.0) for row in rows]
    (tmp_path / "one" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"train": "0123", "analysis_mode": "evaluation", "analysis_dtype": "float64"} | settings
    measured = {name: {"0": [{"settings": settings, "places": ["centroid all"]}]} for name in named}
    journal = {"state": {"measured": measured}, "quantities": named}
    (tmp_path / "one" / "analyzed.json").write_text(json.dumps(journal))
    status = json.loads((tmp_path / "one" / "status.json").read_text())
    (tmp_path / "one" / "status.json").write_text(json.dumps(status | {"loss": "that of Pairs"}))
    text = html.unescape(write_report(tmp_path / "one").read_text())
    terms = dict(re.findall(r"<dt>(.*?)</dt>\n<dd>(.*?)</dd>", text))
    assert terms["Loss"] == "That of Pairs." and terms["Analysis"] == f"Of the training loss, {data}"
    assert terms["Gradient noise"] == "Tr Σ, Σ the covariance of the per-sample gradients."
    assert MEASURES["gauss_newton_trace"].quantities["gauss_newton_trace"].about in terms["Gauss-Newton trace"]


def test_samples_of_one_label_are_told_without_it(tmp_path):
    folder = tmp_path / "one"
    write_run(folder, config({"name": "consensus"}, 32), np.random.default_rng(1), shift=0, flat=1, last=50)
    keep_only(folder)
    (folder / "topology.csv").unlink()
    (folder / "partition.csv").write_text("replica,agent,label,samples\n0,0,0,5\n0,1,0,7\n")
    text = write_report(folder).read_text()
    assert "Samples at each agent, in replica 0." in text and "of each label" not in text


def test_needs_no_torch():
    modules = "basinet.analysis.report.report, basinet.analysis.compare.comparison"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert run_process([sys.executable, "-c", code], check=False).returncode == 0
