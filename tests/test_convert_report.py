"""The table, the page and the picture of a comparison say what was measured; names are made as others make them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from toolace_edge.convert.compare import Comparison, compare, merged
from toolace_edge.convert.measure import Measurement, Reply
from toolace_edge.convert.places import size_label
from toolace_edge.convert.report import markdown, svg, table, write_report
from toolace_edge.convert.verify import SHIPPED, Difference, Report, Row, _compared, check_agreement
from toolace_edge.errors import ToolaceEdgeError
from toolace_edge.evaluate import wilson
from toolace_edge.examples import read_examples
from toolace_edge.schema import check

CALL = {"name": "set_timer", "arguments": {"minutes": 1}}


def row(name: str, megabytes: float, agreement: float | None) -> Row:
    facts = (name, "llama.cpp", round(megabytes * 1e6), 0.5, 1000.0, 100.0, 50.0, 0.625)
    if agreement is None:
        return Row(*facts)
    different = (Difference("a|b", [CALL], None), Difference("c", [], [CALL]))
    return Row(*facts, agreement, 40, wilson(agreement, 40), Comparison(90, 0.5, 0.99, 1e-3), different)


REPORT = Report(
    40,
    "ours",
    row("source: fp32", 33.6, None),
    (row("a<b>-Q8_0", 9.1, 1.0), row("Q4_K_M", 5.6, 0.95), row("x", 5.5, 0.95)),
)


def test_the_table_has_a_line_for_each_model() -> None:
    lines = table(REPORT).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["source:", "a<b>-Q8_0", "Q4_K_M", "x"]
    assert "95.0%" in lines[4]
    assert "1.0e-03" in lines[4]
    assert max(map(len, lines)) <= 120


def test_the_page_shows_what_was_answered_otherwise() -> None:
    page = markdown(REPORT, "plot.svg")
    assert "![Size and agreement of calls](plot.svg)" in page
    assert "| Q4_K_M | 5.6 MB" in page
    assert "95.0% (83.5% to 98.6%)" in page
    assert '| a\\|b | `set_timer("minutes": 1)` | refused |' in page
    assert '| c | no call | `set_timer("minutes": 1)` |' in page
    widths = {line.count("|") - line.count("\\|") for line in page.splitlines() if line.startswith("| model")}
    assert widths == {12}


def test_the_picture_is_svg_with_every_point_inside() -> None:
    root = ElementTree.fromstring(svg(REPORT))
    inside = "{http://www.w3.org/2000/svg}"
    circles = root.findall(f"{inside}circle")
    assert len(circles) == 4
    place = {(float(one.get("cx", 0)), float(one.get("cy", 0))) for one in circles}
    assert all(70 <= x <= 690 and 40 <= y <= 360 for x, y in place)
    labels = {one.text: one for one in root.findall(f"{inside}text")}
    assert {"source: fp32", "a<b>-Q8_0", "Q4_K_M", "x", "size, MB"} <= labels.keys()
    close = [float(labels[name].get("y", 0)) for name in ("Q4_K_M", "x")]
    assert abs(close[0] - close[1]) >= 14  # two points beside each other can both be read
    source, q8 = (next(x for x, _ in sorted(place, reverse=True)), sorted(place)[-2][0])
    assert (source - 70) / (q8 - 70) == pytest.approx(33.6 / 9.1, rel=0.01)  # to scale, from zero


def test_a_report_is_three_files(tmp_path: Path) -> None:
    files = write_report(REPORT, tmp_path, "VERIFY")
    assert sorted(tmp_path.iterdir()) == sorted(files)
    read = json.loads((tmp_path / "VERIFY.json").read_text("utf-8"))
    assert read["models"][1]["agreement"] == 0.95
    assert read["source"]["agreement"] is None


def test_a_threshold_names_the_model_that_fails() -> None:
    check_agreement(REPORT, None)
    check_agreement(REPORT, 0.95)
    with pytest.raises(ToolaceEdgeError, match=r"Q4_K_M answers 95\.0% of 40 .* 97\.0%"):
        check_agreement(REPORT, 0.97)


def measured(calls: list[list[dict[str, object]] | None], rows: np.ndarray, file: Path) -> Measurement:
    file.write_bytes(rows.astype(np.float32).tobytes())
    replies = [Reply(str(i), call, False, [7] * (call is not None)) for i, call in enumerate(calls)]
    return Measurement("m", "m", "llama.cpp", 1, 0.1, 1.0, 1.0, None, rows.shape[1], str(file), replies)


def test_calls_and_logits_are_compared_request_by_request(tmp_path: Path) -> None:
    """The source refuses the third; the others are: equal, true for 1, and refused by the model."""
    one, true = {"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": True}}
    theirs, ours = np.array([[0.0, 1.0, 2.0]] * 3), np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 2.0]])
    source = measured([[one], [one], None, [one]], theirs, tmp_path / "source")
    model = measured([[one], [true], [one], None], np.vstack([ours, ours[:1]]), tmp_path / "model")
    found = _compared(source, model)
    assert (found.compared, found.agreement) == (3, pytest.approx(1 / 3))
    assert [one.id for one in found.differences or ()] == ["1", "3"]
    assert found.logits is not None
    assert (found.logits.n, found.logits.max_error, found.logits.top1_agreement) == (2, 2.0, 0.5)
    divergence = compare(theirs[1:2].astype(np.float32), ours[1:].astype(np.float32)).kl
    assert found.logits.kl == pytest.approx(divergence / 2)
    assert found.logits.kl > 0


def test_comparisons_are_merged_by_their_positions() -> None:
    whole = merged([Comparison(1, 0.5, 1.0, 0.1), Comparison(3, 0.25, 0.0, 0.5)])
    assert (whole.n, whole.max_error, whole.top1_agreement, whole.kl) == (4, 0.5, 0.25, pytest.approx(0.4))


@pytest.mark.parametrize(
    ("weights", "label"),
    [
        *((8_404_992, "8.4M"), (8_030_261_248, "8B"), (1_235_814_400, "1.2B"), (494_032_768, "494M")),
        *((70_553_706_496, "71B"), (109_000, "109K"), (999_900_000, "1B"), (9_960_000, "10M")),
    ],
)
def test_sizes_are_said_in_two_digits(weights: int, label: str) -> None:
    assert size_label(weights) == label


def test_the_requests_that_come_along_can_be_answered() -> None:
    """Every right call obeys the schema of a tool that is at hand."""
    examples = list(read_examples(SHIPPED))
    assert len(examples) == 40
    assert {example.group for example in examples} == {"builtin", "written", "several", "none"}
    for example in examples:
        assert example.refused is None
        tools = {tool.name: tool for tool in example.tools}
        assert all(check(tools[call.name].parameters, dict(call.arguments)) == [] for call in example.gold), example.id
        assert bool(example.gold) == (example.group != "none")
