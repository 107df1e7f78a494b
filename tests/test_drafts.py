from __future__ import annotations

import pytest

from toolace_edge.drafts import Drafter, Lookup, OpenString

# Tokens are code points here, and their text is the character, so that a text reads as itself.


def character(token: int) -> bytes:
    return chr(token).encode()


def ids(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def drafter(previous: str = "", copy_from: str = "") -> Drafter:
    return Drafter(ids(previous), ids(copy_from), character, lambda text: ids(text.decode()))


def proposed(draft: list[int]) -> str:
    return "".join(map(chr, draft))


@pytest.mark.parametrize(
    ("answer", "inside"),
    [
        ('{"a":1', ""),
        ('{"city":"', ""),
        ('{"city":"Par', "Par"),
        ('{"city":"Paris"', ""),
        ('{"a":"say \\"hi', 'say \\"hi'),
        ('{"a":"\\\\"', ""),
        ("f(a='it", "it"),
        ('{"a":"it\'s', "it's"),
    ],
)
def test_the_open_string_is_what_stands_after_its_quote(answer: str, inside: str) -> None:
    string = OpenString()
    for token in ids(answer):
        string.add(token, character(token))
    assert proposed(string.tokens) == inside


def test_a_token_that_opens_a_string_is_not_of_its_value() -> None:
    string = OpenString()
    for token, text in enumerate((b'{"', b"city", b'":"')):
        string.add(token, text)
    assert string.tokens == []
    string.add(7, b"Par")
    assert string.tokens == [7]
    string.add(8, b'","')
    string.add(9, b"x")
    assert string.tokens == [9]


def test_lookup_goes_on_after_the_longest_match_and_the_first_of_several() -> None:
    lookup = Lookup(ids("the news, the newest, the next"), character)
    assert proposed(lookup.after(ids("the n"), 1, 4)) == "ews,"
    assert proposed(lookup.after(ids("the nex"), 1, 4)) == "t"
    assert lookup.after(ids("zzz"), 1, 4) == []
    assert lookup.after([], 1, 4) == []


def test_lookup_wants_three_bytes_and_proposes_twice_what_matched() -> None:
    lookup = Lookup(ids("abcdefghijklmnop"), character)
    assert lookup.after(ids("ab"), 1, 8) == []
    assert proposed(lookup.after(ids("abc"), 1, 8)) == "defghi"
    assert proposed(lookup.after(ids("abcd"), 1, 3)) == "efg"


def test_a_word_is_found_with_or_without_its_leading_space() -> None:
    texts = {1: b" New", 2: b" York", 3: b"New", 4: b" City"}
    assert Lookup([1, 2, 4], texts.__getitem__).after([3], 1, 8) == [2, 4]


def test_the_last_answer_is_proposed_whole_but_for_its_end() -> None:
    assert proposed(drafter('{"a":1}.').propose([], b"")) == '{"a":1}'
    assert proposed(drafter('{"a":1}.').propose(ids('{"a'), b"")) == '":1}'


def test_an_answer_that_left_the_last_one_finds_it_again() -> None:
    assert proposed(drafter('{"a":1,"other":2}.').propose(ids('{"a":7,"o'), b"")) == 'ther":'


def test_certain_text_comes_before_guesses() -> None:
    assert proposed(drafter(copy_from="Paris").propose(ids('{"a":"Par'), b'":"')) == '":"'


def test_words_of_the_request_are_proposed_inside_a_string_only() -> None:
    assert proposed(drafter(copy_from="in Paris").propose(ids('{"a":"Par'), b"")) == "is"
    assert drafter(copy_from="in Paris").propose(ids('{"a":Par'), b"") == []


def test_guesses_grow_while_they_are_right_and_shrink_while_they_are_not() -> None:
    request = "abcdefghijklmnopqrstuvwxyz"
    guesses = drafter(copy_from=request)
    sizes = []
    for right in (True, True, False, False, False, False, False, True):
        draft = guesses.propose(ids('"abcdefgh'), b"")
        sizes.append(len(draft))
        guesses.learn(len(draft) if right else 0)
    assert sizes == [4, 8, 8, 4, 2, 1, 1, 1]
