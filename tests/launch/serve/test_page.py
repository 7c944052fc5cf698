"""The local page, as a reader sees it in a browser."""

from types import SimpleNamespace

import pytest

from basinet.sim.run.records import lines_of
from tests.browser import CHROMIUM, Browser
from tests.launch.serve.planted_studies import HOSTILE, damage_status, plant, rows_of


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def page(browser, server, runs):
    """The page on runs of which one has a name that would be a script."""
    plant(runs / "first" / HOSTILE, rows_of(6), strategy=HOSTILE)
    browser.said.clear()
    yield SimpleNamespace(browser=browser, server=server, runs=runs, open=lambda hash: browser.open(server.url + hash))
    assert not browser.said
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_the_page_lists_runs_and_escapes_their_names(page):
    page.browser.look()
    damage_status(plant(page.runs / "first" / "damaged"))
    page.open("#view=runs")
    page.browser.wait("document.querySelectorAll('tbody tr').length === 6")
    page.browser.wait("document.querySelector('#side summary.problem')?.checkVisibility()")
    names = page.browser.run("[...document.querySelectorAll('td.name')].map(each => each.textContent)")
    assert f"first/{HOSTILE}" in names


CURVES = "document.querySelectorAll('#curves polyline.curve').length"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_curves_are_drawn_in_light_and_dark_on_screens_and_phones(page, width, dark):
    page.browser.look(width, 740, dark=dark)
    page.open("#view=curves&metric=train_loss&ylog=1&study=first")
    page.browser.wait(f"{CURVES} === 3")
    assert page.browser.run("document.querySelectorAll('#curves polygon.band').length") == 3
    assert page.browser.run("document.documentElement.scrollWidth") <= width
    ground = page.browser.run("getComputedStyle(document.documentElement).backgroundColor")
    assert (max(map(int, ground[4:-1].split(","))) < 60) == dark
    page.browser.run("document.getElementById('theme').click()")  # auto, light, dark
    assert page.browser.run("document.documentElement.dataset.theme") == "light"


def test_runs_are_grouped_by_all_keys_that_differ_or_those_that_they_are_averaged_over_are_named(page):
    for strategy in (f"s{k}" for k in range(1, 14)):
        for lr, batch_size in ((0.1, 16), (0.2, 32)):
            folder = page.runs / "pairs" / f"{strategy}-{batch_size}"
            plant(folder, rows_of(2), strategy=strategy, lr=lr, batch_size=batch_size)
    page.browser.look()
    said = "document.querySelector('#main')?.textContent"
    differing = "differ in optimizer.lr (with batch_size);"
    page.open("#view=curves&study=pairs")  # 26 groups are too many
    page.browser.wait(f"{CURVES} === 13 && {said}?.includes('Each line averages runs that {differing}')")
    page.open("#view=curves&study=pairs&filter=s1")
    page.browser.wait(f"{CURVES} === 10 && {said}?.includes('s12, lr 0.2')")
    assert not page.browser.run(f"{said}?.includes('differ in')")
    page.open("#view=scatter&study=pairs&by=strategy.name")
    page.browser.wait(f"{said}?.includes('Runs of one colour {differing}')")


def test_words_in_the_column_of_studies_are_whole_whatever_its_width(page):
    plant(page.runs / "first" / "bad", state="failed")
    page.browser.look()
    page.open("#view=runs")
    page.browser.wait("document.querySelector('.studies')?.textContent.includes('All6, 1 failed')")
    tallest = """Math.max(...Array.from({ length: 16 }, (_, i) => {
      document.querySelector('#side').style.width = `${i + 6}rem`;
      return document.querySelector('.studies span').getBoundingClientRect().height;
    }))"""
    assert page.browser.run("document.querySelector('.studies span').textContent") == "All"
    assert page.browser.run(tallest) < 30  # one line of "All"


def test_curves_grow_while_a_run_writes(page):
    page.browser.look()
    page.open("#view=curves&metric=train_loss&study=second")
    points = "document.querySelector('#curves polyline.curve')?.getAttribute('points').split(' ').length"
    page.browser.wait(f"{points} === 3")
    with open(page.runs / "second" / "now" / "metrics.jsonl", "ab") as file:
        file.write(lines_of(rows_of(5)[6:]) + b'{"step": 5')
    page.browser.wait(f"{points} === 5")


def test_other_views_show_points_agents_and_differences(page):
    page.browser.look()
    page.open("#view=scatter&study=first&xmetric=train_loss&ymetric=test_accuracy")
    page.browser.wait("document.querySelectorAll('#scatter .mark').length === 3")
    page.browser.run("document.querySelector('#scatter a').dispatchEvent(new Event('focus'))")
    page.browser.wait("document.querySelector('.tip')?.textContent.includes('replicas')")
    page.open("#view=compare&study=first")
    page.browser.wait("document.querySelector('#differences')?.textContent.includes('strategy.name')")
    page.open("#view=run&run=first/diffusion")
    page.browser.wait("document.body?.textContent.includes('nobody: the run has ended (done)')")
    with open(page.runs / "first" / "diffusion" / "metrics.jsonl", "ab") as file:
        for step in (20, 50):
            rows = [{"step": step, "replica": 0, "agent": k, "test_loss": k * step} for k in range(3)]
            file.write(lines_of(rows))
    page.open("#view=agents&run=first/diffusion")
    page.browser.wait("document.querySelectorAll('#agents .node').length === 3")
    colors = "JSON.stringify([...document.querySelectorAll('#agents .node')].map(each => each.style.fill))"
    before = page.browser.wait(colors)
    page.browser.run("document.querySelector('.player button').click()")  # from the last step to the first
    page.browser.wait(f"{colors} !== {before!r}")
    page.browser.wait(f"{colors} === {before!r}")  # and on to the last again


def test_a_film_keeps_its_step_while_a_run_writes_and_follows_at_the_end(page):
    folder = page.runs / "second" / "now"

    def measured(*steps):
        with open(folder / "metrics.jsonl", "ab") as file:
            for step in steps:
                file.write(
                    lines_of([{"step": step, "replica": 0, "agent": k, "test_loss": k * step} for k in range(3)])
                )

    page.browser.look()
    measured(10, 20, 30)
    page.open("#view=agents&run=second/now")
    shown = "document.querySelector('.player output')?.textContent"
    most = "document.querySelector('.player input')?.max"
    page.browser.wait(f"{shown} === 'step 30'")
    measured(40)
    page.browser.wait(f"{most} === '3' && {shown} === 'step 40'")
    page.browser.run(
        "{ const at = document.querySelector('.player input'); at.value = 1; at.dispatchEvent(new Event('input')) }"
    )
    page.browser.wait(f"{shown} === 'step 20'")
    measured(50, 5)
    page.browser.wait(f"{most} === '5' && {shown} === 'step 20'")


def test_a_server_that_is_started_anew_numbers_the_runs_anew(page):
    page.browser.look()
    page.open("#view=runs")
    page.browser.wait("document.querySelectorAll('tbody tr').length === 5")
    page.browser.run("document.querySelector('tbody input').click()")
    page.browser.wait("document.querySelector('#side').textContent.includes('1 ticked')")
    page.server.session = "another"
    page.browser.wait(
        "document.querySelectorAll('tbody tr').length === 5"
        " && !document.querySelector('#side').textContent.includes('1 ticked')"
    )
