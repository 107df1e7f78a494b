from __future__ import annotations

import itertools
import math
import random

import pytest

from toolace_edge import refine as refine_module
from toolace_edge.confidence import Calibration, Confidence
from toolace_edge.decode import Decoded, GivenUp, Opening
from toolace_edge.errors import BudgetError, ModelError
from toolace_edge.messages import Step, Usage
from toolace_edge.refine import refine

LENGTH = 4  # letters of an answer, each an "a" or a "b"
ONE = Usage(forward_passes=1)


def evidence(chances: list[float]) -> Confidence:
    found: Confidence | None = None
    for chance in chances:
        found = Confidence.of(chance, found)
    assert found is not None
    return found


class Letters:
    """A pen that writes words of LENGTH letters. `chance(word)` is that of an "a" after `word`, `again(word)` that of
    the whole word after itself. `close` is what a letter's chance must be of the other one's to be an opening.
    """

    def __init__(self, chance, again, close: float = 0.0) -> None:
        self.chance, self.again, self.close = chance, again, close
        self.read_words: list[str] = []
        self.begun: list[str] = []
        self.refuses: set[str] = set()  # words that do not fit once more, and openings of which none fits

    def of(self, word: str) -> float:
        before = self.chance(word[:-1])
        return before if word[-1] == "a" else 1 - before

    def chances(self, word: str) -> list[float]:
        return [self.of(word[: i + 1]) for i in range(len(word))]

    def write(self, opening: str = "", least: float = -math.inf) -> Decoded | GivenUp:
        word, openings = opening, []
        while True:
            if word and evidence(self.chances(word)).log_product <= least:
                return GivenUp(ONE, tuple(openings))
            if len(word) == LENGTH:
                break
            best, other = sorted("ab", key=lambda letter: -self.of(word + letter))
            if self.of(word + other) >= self.close * self.of(word + best):
                openings.append(self.opening(word + other))
            word += best
        return Decoded((), word.encode(), (), ONE, evidence(self.chances(word)), tuple(openings))

    def opening(self, word: str) -> Opening:
        return Opening((Step(0, word, "free"),), evidence(self.chances(word)))

    def finish(self, opening: Opening, least: float, draft) -> Decoded | GivenUp:
        self.begun.append(opening.steps[0].text)
        if self.begun[-1] in self.refuses:
            raise BudgetError("no answer fits")
        return self.write(self.begun[-1], least)

    def read(self, answer: Decoded) -> Decoded | None:
        word = answer.text.decode()
        self.read_words.append(word)
        if word in self.refuses:
            return None
        return Decoded((), answer.text, (), ONE, evidence([self.again(word)]))


def play(pen: Letters, rounds: int = 99, **options) -> tuple[list[str], str]:
    first = pen.write()
    assert isinstance(first, Decoded)
    refined = refine(first, pen, rounds=rounds, **options)
    return [one.text.decode() for one in refined.rounds], refined.stop


def table(seed: int) -> dict[str, float]:
    """A chance for every beginning and for every whole word."""
    rng = random.Random(seed)
    words = ["".join(letters) for n in range(LENGTH + 1) for letters in itertools.product("ab", repeat=n)]
    return {word: rng.uniform(0.05, 0.95) for word in words}


def score(pen: Letters, word: str) -> float:
    return evidence(pen.chances(word)).log_product + math.log(pen.again(word))


@pytest.mark.parametrize("seed", range(40))
def test_the_answer_kept_is_the_best_of_all_there_are(seed: int, monkeypatch) -> None:
    """Against every word there is: what is not read could not have won."""
    monkeypatch.setattr(refine_module, "OTHERS", 99)
    monkeypatch.setattr(refine_module, "HEAD_START", 0.0)
    chances = table(seed)
    pen = Letters(chances.__getitem__, chances.__getitem__)
    words, stop = play(pen)
    whole = ["".join(letters) for letters in itertools.product("ab", repeat=LENGTH)]
    assert words[-1] == max(whole, key=lambda word: score(pen, word))
    assert (stop, len(words)) == ("unchanged", 2 if words[0] == words[-1] else 3)
    assert len(pen.read_words) == len(set(pen.read_words)) <= len(whole)


@pytest.mark.parametrize("seed", range(40))
def test_every_round_is_at_least_as_good_as_the_one_before(seed: int) -> None:
    chances = table(seed)
    pen = Letters(chances.__getitem__, chances.__getitem__)
    words, stop = play(pen)
    scores = [score(pen, word) for word in words]
    assert scores == sorted(scores)
    assert stop == "unchanged"
    assert words[-1] == words[-2]
    assert len(pen.begun) <= refine_module.OTHERS * (len(words) - 1)
    one, _ = play(Letters(chances.__getitem__, chances.__getitem__), rounds=1)
    assert one == words[:2]


@pytest.mark.parametrize("seed", range(40))
def test_only_one_with_a_head_start_takes_the_place(seed: int) -> None:
    chances = table(seed)
    pen = Letters(chances.__getitem__, chances.__getitem__)
    words, _ = play(pen)
    for before, after in itertools.pairwise(words):
        alone = evidence(pen.chances(after)).log_product
        assert after == before or alone > score(pen, before) + refine_module.HEAD_START
    for word in pen.read_words[1:]:
        assert evidence(pen.chances(word)).log_product > score(pen, words[0]) + refine_module.HEAD_START


def sure_of_itself(word: str) -> float:
    return 0.9 if word == "aaaa" else 0.5


def test_nothing_changes_where_the_first_answer_would_be_written_again() -> None:
    pen = Letters(lambda word: 0.8, sure_of_itself)
    assert play(pen) == (["aaaa", "aaaa"], "unchanged")
    assert (pen.read_words, pen.begun) == (["aaaa"], [])  # no opening has more than 0.2 of 0.8 ** 4 * 0.9 = 0.37


def test_an_answer_that_would_not_be_written_again_gives_way_to_one_that_would() -> None:
    pen = Letters(lambda word: 0.6 if word == "aaa" else 0.99, lambda word: {"aaaa": 0.2, "aaab": 0.9}[word])
    assert play(pen) == (["aaaa", "aaab", "aaab"], "unchanged")
    assert pen.read_words == ["aaaa", "aaab"]


def test_the_likeliest_opening_comes_first() -> None:
    chances = {"": 0.9, "a": 0.6, "aa": 0.8, "aaa": 0.9}
    pen = Letters(lambda word: chances.get(word, 0.99), lambda word: 0.01)
    play(pen, rounds=1)
    assert pen.begun == ["ab", "aab"]  # 0.9 * 0.4, 0.9 * 0.6 * 0.2; "b" has 0.1, "aaab" 0.9 * 0.6 * 0.8 * 0.1


def test_an_answer_without_an_opening_is_not_read_again() -> None:
    pen = Letters(lambda word: 0.99, lambda word: 0.01, close=0.1)
    assert play(pen) == (["aaaa"], "unchanged")
    assert pen.read_words == []


def test_no_round_means_no_round() -> None:
    pen = Letters(lambda word: 0.6, lambda word: 0.01)
    assert play(pen, rounds=0) == (["aaaa"], "max_rounds")
    assert pen.read_words == []


def test_the_number_of_rounds_is_a_limit() -> None:
    pen = Letters(lambda word: 0.6, lambda word: 0.01 if word == "aaaa" else 0.9)
    words, stop = play(pen, rounds=1)
    assert (len(words), words[0] == words[1], stop) == (2, False, "max_rounds")


def test_where_an_answer_does_not_fit_once_more_the_first_one_stands() -> None:
    pen = Letters(lambda word: 0.6, lambda word: 0.01)
    pen.refuses = {"aaaa"}
    assert play(pen) == (["aaaa"], "context")


def test_an_opening_that_no_answer_with_room_begins_with_is_passed_over() -> None:
    pen = Letters(lambda word: 0.6 if word in ("aa", "aaa") else 0.999, lambda word: 0.01 if word == "aaaa" else 0.9)
    pen.refuses = {"aaab", "aaba"}  # the one cannot be finished, the other not be read
    assert play(pen)[0][-1] == "aaaa"
    pen.refuses = {"aaab"}
    assert play(pen)[0][-1] == "aaba"


def test_a_round_tells_what_it_took_and_the_host_is_told_each() -> None:
    pen, told = Letters(lambda word: 0.6 if word == "aaa" else 0.99, lambda word: 0.5), []
    first = pen.write()
    refined = refine(first, pen, rounds=3, on_round=lambda number, one: told.append((number, one)))
    assert [one.usage.forward_passes for one in refined.rounds] == [1, 1 + len(pen.begun) + len(pen.read_words) - 1]
    assert told == [(1, refined.rounds[1])]


def test_the_gate_is_off_until_calibrated_and_saves_rounds_then() -> None:
    pen = Letters(lambda word: 0.6, lambda word: 0.01 if word == "aaaa" else 0.9)  # the first: log 0.6 ** 4 = -2.04
    sure = Calibration(a=1.0, b=5.0, gate=0.9)
    assert sure(Confidence(-2.04, -0.5, 4)) == pytest.approx(0.951, abs=1e-3)
    assert play(pen, calibration=sure) == (["aaaa"], "confident")
    assert len(play(pen, calibration=Calibration(1.0, 5.0))[0]) > 1
    assert len(play(pen, calibration=Calibration(1.0, 0.0, gate=0.9))[0]) > 1


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
