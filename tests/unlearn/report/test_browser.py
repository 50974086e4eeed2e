"""The page in a real browser, from disk: it draws, sorts, filters, switches, and loads nothing."""

import copy
import json
import struct

import pytest

from tests.unlearn.report.logs import NLP, Model, write_board
from tests.unlearn.report.test_html import EVIL
from unlearn.report.html import write_report

METHODS = "return [...document.querySelectorAll('#board-table tbody tr')].map((row) => row.dataset.label)"
CLICK = "document.querySelector(arguments[0]).click()"
CHOOSE = (
    "const made = document.getElementById(arguments[0]); "
    "made.value = arguments[1]; made.dispatchEvent(new Event('change'))"
)
CARDS = "return [...document.querySelectorAll('#cards article')].map((card) => card.dataset.row)"


def drawn(name):
    return f"document.querySelector('[data-chart={name}] .main-svg')"


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    yield browser
    assert browser.console() == []


def sort_by(browser, key):
    browser.run(CLICK, f'#board-table th[data-key="{key}"] button')
    return browser.run(METHODS)


def test_page_draws_at_every_width_and_in_both_themes(opened, tmp_path):
    charts = ("tradeoff", "fates", "authors", "privacy", "curves", "cost")
    for width, dark in ((1280, False), (1280, True), (390, True), (390, False)):  # changed while the page is open
        opened.emulate(width=width, dark=dark)
        text = "rgb(233, 234, 236)" if dark else "rgb(28, 30, 33)"
        for name in charts:
            opened.wait(
                f"{drawn(name)} && document.querySelector('[data-chart={name}]').layout.font.color === '{text}'"
            )
        opened.run("document.querySelector('#ecdf-panels').scrollIntoView()")
        opened.wait("document.querySelectorAll('#ecdf-panels .main-svg').length >= 3")
        fits = "(one) => one.clientWidth <= one.closest('.card').clientWidth"
        opened.wait(f"[...document.querySelectorAll('.main-svg')].every({fits})")
        assert opened.run("return [innerWidth, document.documentElement.scrollWidth]") == [
            width,
            width,
        ]  # nothing sticks out
        assert opened.run("return getComputedStyle(document.body).color") == text
        image = opened.screenshot(tmp_path / f"{width}_{dark}.png")
        assert (
            image[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">I", image[16:20]) == (width,) and len(image) > 20_000
        )


def test_table_sorts_both_ways_with_gold_and_base_on_top(opened, board):
    _, rows = board
    top = ["gold (retain90)", "base (full)"]
    assert opened.run(METHODS) == [*top, "npo", "idk", "grad_ascent", "scrub"]
    names = ("npo", "idk", "grad_ascent", "scrub")
    means = {name: [row["Retain metric"] for row in rows if row["method"] == name] for name in names}
    by_retain = sorted(means, key=lambda name: -sum(means[name]) / len(means[name]))
    assert sort_by(opened, "Retain metric") == [*top, *by_retain]
    assert sort_by(opened, "Retain metric") == [*top, *reversed(by_retain)]
    assert opened.run("return document.querySelector('th[aria-sort]').dataset.key") == "Retain metric"
    assert sort_by(opened, "label") == [*top, "grad_ascent", "idk", "npo", "scrub"]


def test_switching_the_definition_changes_table_and_scatter(opened, board):
    cell = "return document.querySelector('tr[data-label=scrub] td:nth-child(6)').firstChild.data"
    _, rows = board
    before, points = opened.run(cell), "return document.querySelector('[data-chart=tradeoff]').data.at(-1).y[0]"
    assert before == f"{rows[-1]['Forget metric']:.2f}" and opened.run(points) == pytest.approx(
        rows[-1]["Forget metric"]
    )
    opened.run(CLICK, "[data-definition=reference]")
    assert opened.run(cell) == f"{rows[-1]['reference']['Forget metric']:.2f}" != before
    assert opened.run(points) == pytest.approx(rows[-1]["reference"]["Forget metric"])


def test_theme_switch_goes_round(opened):
    now = "return [document.documentElement.dataset.theme ?? null, getComputedStyle(document.body).colorScheme]"
    seen = []
    for _ in range(3):
        opened.run(CLICK, "#theme")
        seen.append(opened.run(now))
    assert seen == [["light", "light"], ["dark", "dark"], [None, "light dark"]]


def test_gate_ks_distance_and_cards_of_the_page_as_it_opens(opened, board):
    _, rows = board
    assert "something to forget" in opened.run("return document.querySelector('[data-gate=true]').textContent")
    text = opened.run("return document.querySelector('#cards article').innerText")
    assert "What do you see in the picture?" in text and "Reference" in text
    for label in ("base (full)", "gold (retain90)", "npo · seed 1", "idk", "grad_ascent", "scrub"):
        assert label in text
    opened.wait("document.querySelector('#cards img').naturalWidth === 128")
    opened.run("document.querySelector('[data-label=scrub] .plot').scrollIntoView()")
    opened.wait("document.querySelector('[data-label=scrub] .plot').data")
    bar = opened.run("return document.querySelector('[data-label=scrub] .plot').data[2]")
    assert bar["x"][0] == bar["x"][1] and abs(bar["y"][0] - bar["y"][1]) == pytest.approx(rows[-1]["KS statistic"])


def test_answers_are_filtered_by_fate_run_task_and_words(opened):
    opened.run(CHOOSE, "answers-run", "scrub")
    chips = "[...document.querySelectorAll('#answers-fates button')]"
    counts = dict(opened.run(f"return {chips}.map((chip) => [chip.dataset.fate, +chip.lastChild.textContent])"))
    assert counts[""] == 24 == sum(counts.values()) - 24  # with one run chosen each row has one fate
    assert counts["kept"] > 12 > counts["forgotten"] > 0
    opened.run(CLICK, "[data-fate=forgotten]")
    assert len(opened.run(CARDS)) == counts["forgotten"]
    fates = opened.run("return [...document.querySelectorAll('#cards .fate')].map((one) => one.textContent)")
    assert set(fates) == {"forgotten"}
    opened.run(CLICK, "[data-fate=kept]")
    assert len(opened.run(CARDS)) == 12
    opened.run(CLICK, "#answers-more")
    assert len(opened.run(CARDS)) == counts["kept"]
    opened.run(CHOOSE, "answers-task", "1")
    opened.run(CHOOSE, "answers-run", "")
    search = "const box = document.getElementById('answers-search'); box.value = arguments[0]; box.oninput()"
    opened.run(search, "нина орлова")
    assert "2" in opened.run(CARDS) and len(opened.run(CARDS)) < 24
    opened.run(search, "no such words")
    assert opened.run(CARDS) == []


def test_roc_curves_stand_beside_golds_and_bases(opened, board):
    _, rows = board
    named = "document.querySelector('[data-chart=privacy]').data"
    names = [
        "gold (retain90)",
        "base (full)",
        "npo · seed 1",
        "npo · seed 2",
        "npo · seed 3",
        "idk",
        "grad_ascent",
        "scrub",
    ]
    assert opened.run(f"return {named}.map((curve) => curve.name)") == ["chance", *names]
    assert opened.run(f"return {named}.slice(1, 3).map((curve) => curve.line.dash)") == ["dot", "dash"]
    cells = (
        "return [...document.querySelectorAll('#privacy-table tr[data-label=scrub] td')].map((one) => one.textContent)"
    )
    loss, scrub = rows[-1]["privacy"]["Forget"]["LOSS"], opened.run(cells)
    low, high = loss["interval"]
    assert scrub[1] == f"{loss['AUC']:.2f} [{low:.2f}, {high:.2f}]" and scrub[-1] == f"{loss['score']:.2f}"
    before = opened.run(f"return {named}.at(-1).y")
    opened.run(CHOOSE, "privacy-task", "1")
    assert opened.run(f"return {named}.at(-1).y") != before
    assert opened.run(cells)[1].startswith(f"{rows[-1]['privacy']['Forget FaceRec']['LOSS']['AUC']:.2f} [")
    assert "8 people to forget, 8 in the holdout" in opened.run(
        "return document.getElementById('privacy-notes').innerText"
    )


def test_two_runs_are_compared_as_chosen(opened, board):
    line = "document.querySelectorAll('#compare-table tr[data-name=\"Forget metric\"] td')"
    cells = f"return [...{line}].map((one) => one.textContent)"
    _, rows = board
    first = opened.run(cells)
    assert first[2] == f"{rows[0]['gold']['Forget metric']:.3f}", "a model beside gold, before anything is chosen"
    runs = "return [...document.getElementById('compare-a').options].map((one) => one.textContent)"
    place = opened.run(runs).index("scrub")
    opened.run(CHOOSE, "compare-a", str(place))
    there = opened.run(cells)
    assert there[1] == f"{rows[-1]['Forget metric']:.3f}" and there[3][0] == "+" and there[5] == "different"
    assert there[7] and there[8] == "0.00", "gold leaks nothing"
    opened.run(CHOOSE, "compare-a", "0")
    opened.run(CHOOSE, "compare-b", str(place))
    back = opened.run(cells)
    assert back[3] == there[3].replace("+", "−") and [back[1], back[2]] == [there[2], there[1]]
    assert back[6] == there[6]


def test_without_a_holdout_nothing_is_missed(browser, tmp_path):
    """Logs of before: the view is not there, and no note says that it is missing."""
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=4)
    for log in tmp_path.glob("*/eval_results/eval_log_aggregated.json"):
        tasks = json.loads(log.read_text())
        log.write_text(json.dumps({name: task for name, task in tasks.items() if "holdout" not in name}))
    browser.open(write_report(tmp_path / "page.html", rows, root=tmp_path))
    browser.wait(drawn("tradeoff"))
    places = ["section#privacy", "nav a[href='#privacy']", "#missing"]
    hidden = "return arguments[0].map((name) => document.querySelector(name)?.hidden ?? null)"
    assert browser.run(hidden, places) == [True, True, None]
    assert browser.console() == []


def test_html_in_answers_and_names_is_shown_not_run(browser, tmp_path):
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=4)
    log = tmp_path / rows[0]["logs"]["model"]
    tasks = json.loads(log.read_text())
    tasks["eval_log_forget.json"]["generated_text"]["0"][1] = EVIL
    log.write_text(json.dumps(tasks))
    rows[0]["method"] = evil = "<b onclick=alert(1)>npo</b><a href='javascript:alert(1)'>"
    browser.open(write_report(tmp_path / "page.html", rows, root=tmp_path))
    browser.wait(drawn("tradeoff"))
    assert browser.run("return document.title") == "Unlearning leaderboard"
    assert browser.run("return document.querySelector('#cards').textContent.includes(arguments[0])", EVIL[:-2])
    assert evil in browser.run("return document.querySelector('[data-chart=tradeoff] .legend').textContent")
    made = "[onclick], [onerror], a[href^=javascript], img:not([src^=data])"
    assert browser.run("return document.querySelectorAll(arguments[0]).length", made) == 0
    assert browser.console() == []


def test_missing_logs_are_said_and_the_rest_is_drawn(browser, board, tmp_path):
    _, rows = board
    browser.open(write_report(tmp_path / "page.html", rows, root=tmp_path))
    said = browser.run("return document.getElementById('missing').textContent")
    for view in ("Truth ratios", "Answers", "People", "Training", "Cost"):
        assert view in said
    assert "no such file" in said and len(browser.run(METHODS)) == 6
    assert browser.run("return document.querySelectorAll('section .empty').length") == 5
    assert browser.console() == []


def test_without_memorisation_the_page_says_that_the_comparison_means_little(browser, board, tmp_path):
    root, rows = board
    rows = [{**copy.deepcopy(row), "memorised": False} for row in rows]
    browser.open(write_report(tmp_path / "page.html", rows, root=root))
    assert "means little" in browser.run("return document.querySelector('[data-gate=false]').textContent")
    assert browser.run("return document.querySelectorAll('#board-table .tag').length") >= 4


def test_two_tracks_are_two_comparisons(browser, tmp_path):
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=8)
    rows += write_board(tmp_path, [Model("dpo", 0.5, 0.9)], track=NLP, items=8, prefix="nlp_")
    browser.open(write_report(tmp_path / "page.html", rows, root=tmp_path))
    assert browser.run(METHODS)[-1] == "npo"
    browser.run(CHOOSE, "board", "1")
    assert browser.run(METHODS)[-1] == "dpo"
    assert browser.run("return document.querySelectorAll('#cards img').length") == 0
    browser.run(CLICK, "[data-definition=reference]")
    assert "switch to the paper" in browser.run("return document.querySelector('#tradeoff .empty').textContent")
    browser.run(CLICK, "[data-definition=paper]")
    assert browser.run("return document.querySelector('#tradeoff .empty')") is None
    assert browser.console() == []
