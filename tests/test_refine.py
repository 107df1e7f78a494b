from __future__ import annotations

import pytest

from toolace_edge.confidence import Calibration, Confidence
from toolace_edge.decode import Decoded
from toolace_edge.errors import BudgetError, ModelError
from toolace_edge.messages import Usage
from toolace_edge.refine import refine


class Writer:
    """Plays one answer a round, a letter each, and remembers what it was asked."""

    def __init__(self, answers: str, log_probability: float | None = -1.0) -> None:
        self.answers = answers
        self.asked: list[tuple[int, list[int], list[int]]] = []
        self._confidence = None if log_probability is None else Confidence(log_probability, log_probability, 1)

    def __call__(self, number, prompt, draft) -> Decoded:
        self.asked.append((number, list(prompt), list(draft)))
        if number == len(self.answers):
            raise BudgetError("a prompt that does not fit")
        text = self.answers[number]
        return Decoded((ord(text), 2), text.encode(), (), Usage(forward_passes=1), self._confidence)


def play(answers: str, *, n_ctx: int = 100, rounds: int = 3, calibration: Calibration | None = None, **options):
    writer = Writer(answers, **options)
    refined = refine(writer, prompt=[10, 11], turn=[9], n_ctx=n_ctx, rounds=rounds, calibration=calibration)
    return "".join(decoded.text.decode() for decoded in refined.rounds), refined.stop, writer.asked


@pytest.mark.parametrize(
    ("answers", "rounds", "played", "stop"),
    [
        ("aa", 3, "aa", "unchanged"),
        ("abb", 3, "abb", "unchanged"),
        ("abab", 3, "aba", "cycle"),
        ("abcb", 3, "abcb", "cycle"),
        ("abcde", 3, "abcd", "max_rounds"),
        ("abcdd", 4, "abcdd", "unchanged"),
        ("a", 0, "a", "max_rounds"),
        ("ab", 1, "ab", "max_rounds"),
    ],
)
def test_rounds_go_on_until_there_is_a_reason_to_stop(answers: str, rounds: int, played: str, stop: str) -> None:
    assert play(answers, rounds=rounds)[:2] == (played, stop)


def test_each_round_sees_the_prompt_the_last_answer_and_the_turn_and_has_that_answer_as_draft() -> None:
    _, _, asked = play("abb")
    a, b = [ord("a"), 2], [ord("b"), 2]
    assert asked == [(0, [10, 11], []), (1, [10, 11, *a, 9], a), (2, [10, 11, *b, 9], b)]


def test_an_answer_without_a_free_choice_is_not_asked_for_again() -> None:
    assert play("ab", log_probability=None)[:2] == ("a", "unchanged")


def test_a_round_needs_room_in_the_context() -> None:
    assert play("ab", n_ctx=38)[:2] == ("a", "context")
    assert play("aa", n_ctx=39)[:2] == ("aa", "unchanged")


def test_a_prompt_that_does_not_fit_is_no_reason_to_stop_but_an_error() -> None:
    with pytest.raises(BudgetError):
        play("")


def test_the_gate_is_off_until_calibrated_and_saves_rounds_then() -> None:
    sure = Calibration(a=1.0, b=5.0, gate=0.9)
    assert sure(Confidence(-1.0, -1.0, 1)) == pytest.approx(0.982, abs=1e-3)
    assert play("abb", calibration=sure)[:2] == ("a", "confident")
    assert play("abb", calibration=Calibration(1.0, 5.0))[:2] == ("abb", "unchanged")
    assert play("abb", calibration=Calibration(1.0, 0.0, gate=0.9))[:2] == ("abb", "unchanged")


def test_a_calibration_reads_the_statistic_that_it_names() -> None:
    evidence = Confidence(log_product=-8.0, log_minimum=-1.0, choices=9)
    facts = {"kind": "logistic", "a": 1.0, "b": 0.0, "gate": None}
    product, minimum = Calibration.of(facts), Calibration.of({**facts, "on": "log_minimum"})
    assert product(evidence) < 0.001
    assert minimum(evidence) == pytest.approx(0.269, abs=1e-3)
    assert Calibration.of(None) is None
    assert Calibration(1000.0, 0.0)(evidence) == pytest.approx(0.0)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"kind": "magic"},
        {"kind": "logistic", "a": "x", "b": 0},
        {"kind": "logistic"},
        {"kind": "logistic", "a": 1.0, "b": 0.0, "top_k": 0},
    ],
)
def test_a_calibration_of_another_kind_is_refused(facts) -> None:
    with pytest.raises(ModelError, match="calibration"):
        Calibration.of(facts)


def test_confidence_is_the_product_and_the_minimum() -> None:
    evidence = None
    for probability in (0.5, 0.25, 1.0):
        evidence = Confidence.of(probability, evidence)
    assert evidence == Confidence(pytest.approx(-2.0794, abs=1e-3), pytest.approx(-1.3863, abs=1e-3), 3)
    assert Confidence.of(0.0, None).log_product < -60
