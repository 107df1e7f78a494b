"""Bars on standard error, where somebody looks at it, and nothing where nobody does."""

from __future__ import annotations

import io

import pytest

from toolace_edge.convert.progress import Bars


class Screen(io.StringIO):
    def __init__(self, seen: bool) -> None:
        super().__init__()
        self.seen = seen

    def isatty(self) -> bool:
        return self.seen


@pytest.mark.parametrize("seen", [True, False])
def test_bars_are_for_screens(seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(seen)
    monkeypatch.setattr("sys.stderr", screen)
    with Bars() as bars:
        for done in range(1, 5):
            bars("Converting", done, 4)
        bars("Quantizing", 7, 7)
    text = screen.getvalue()
    if not seen:
        assert text == ""
        return
    assert text.index("Converting") < text.index("4/4") < text.index("Quantizing") < text.index("7/7")
    assert "/s" in text  # how fast it goes
