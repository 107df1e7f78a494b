"""The bank of written tools and requests: what it draws obeys its schemas; what is wrong is told."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

jsonschema = pytest.importorskip("jsonschema")

from toolace_edge.cli import cli  # noqa: E402
from toolace_edge.errors import DataError, InputError  # noqa: E402
from toolace_edge.tools import load_tools  # noqa: E402
from toolace_edge.train.bank import Bank, draw, load_families, unwritten  # noqa: E402
from toolace_edge.train.bank_format import read_families  # noqa: E402
from toolace_edge.train.bank_types import Family  # noqa: E402
from toolace_edge.train.check import examine  # noqa: E402
from toolace_edge.train.examples import Example, read_examples  # noqa: E402
from toolace_edge.train.several import lower_start  # noqa: E402
from toolace_edge.train.synth_values import ValueMaker  # noqa: E402

LOANS = """
## loans
tool monthly_payment: Compute the fixed monthly payment of a loan.
- principal: number = 2000..400000 ; Amount borrowed, in dollars.
- rate: number = 1.5..14/1*0.01 ; Interest a year as a decimal, e.g. 0.05 for 5%.
- every: enum? = every month -> monthly | each quarter -> quarterly | monthly ; How often.
- insured: boolean? ; Whether insurance is included.
? What do I pay on {principal} dollars at {rate}%, insurance included? => insured=true
? {principal} dollars, {rate}%, {every}
& Compare {rate1}% with {rate2}% on {principal} dollars.
! Is it wise to borrow now?

tool send: Send a letter.
- to.name: string = @person ; Who gets it.
- to.city: string = @city ; Where.
- copies: integer? = a pair of -> 2 | 3..9 ; How many.
- tags: string[]? = red | blue | green ; Labels.
? Send {copies} letters to {to.name} in {to.city}, labelled {tags}.
? {to.name} in {to.city} gets a letter.
+ Write to {send.to.name} in {send.to.city=send#2.to.city} and to {send#2.to.name} there; then the payment on {monthly_payment.principal} at {monthly_payment.rate}%.
~ I owe {send.to.name} a letter. // Where to? // To {send.to.city}, {send.copies} of them.
~ Is {monthly_payment.principal} dollars much? // At {monthly_payment.rate}% it is. // Then tell {send.to.name} in {send.to.city} so. => send()
~ Write a letter. // To whom? // I'll ask. => nothing
"""  # noqa: E501


def values(seed: int = 0) -> ValueMaker:
    return ValueMaker(random.Random(seed), ["send more tea"], ["elm", "brisk"])


def loans() -> Family:
    return read_families(LOANS.splitlines(), "loans.txt")[0]


def drawn(line: str) -> Example:
    """The line with this mark and beginning, drawn."""
    family = loans()
    bank = Bank([family], values())
    requests = [r for one in family.tools.values() for r in (*one.single, *one.several, *one.none)]
    requests += family.mixed + family.talks
    return bank._drawn(family, next(r for r in requests if r.text.startswith(line)), plain=True)


def test_the_request_says_a_percentage_and_the_call_holds_a_fraction() -> None:
    example = drawn("What do I pay")
    (call,) = example.calls
    said = float(example.request.split(" at ")[1].split("%")[0])
    assert call.arguments["rate"] == pytest.approx(said / 100)
    assert call.arguments["insured"] is True
    assert "every" not in call.arguments


def test_numbered_slots_are_calls_and_bare_ones_are_shared() -> None:
    example = drawn("Compare")
    first, second = (call.arguments for call in example.calls)
    assert first["principal"] == second["principal"]
    assert first["rate"] != second["rate"]


def test_calls_of_several_tools_come_in_the_order_of_their_mention_and_may_share_a_value() -> None:
    example = drawn("Write to")
    assert [call.name for call in example.calls] == ["send", "send", "monthly_payment"]
    one, two, _ = (call.arguments for call in example.calls)
    assert one["to"]["city"] == two["to"]["city"]
    assert one["to"]["name"] != two["to"]["name"]


def test_a_conversation_has_turns_and_asks_for_one_call_or_none() -> None:
    example = drawn("I owe")
    assert [message.role for message in example.messages] == ["user", "assistant", "user"]
    (call,) = example.calls
    assert call.arguments["to"]["name"] in example.messages[0].content
    assert call.arguments["to"]["city"] in example.messages[2].content
    assert [call.name for call in drawn("Is {0} dollars").calls] == ["send"]
    assert drawn("Write a letter").calls == ()


def test_a_nested_object_is_required_where_something_in_it_is() -> None:
    schema = loans().tools["send"].tool.parameters
    assert schema["required"] == ["to"]
    assert schema["properties"]["to"]["required"] == ["name", "city"]


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("{principal} dollars, {rate}%, {every}", "{principal} dollars, {every}", 9, "requires 'rate'"),
        ("{rate1}%", "{rates1}%", 10, "no parameter with values is called 'rates1'"),
        ("=> insured=true", "=> insured=perhaps", 8, "'perhaps' is no boolean"),
        ("1.5..14/1*0.01", "14..1.5", 5, "is empty"),
        ("monthly ; How", "@city ; How", 6, "an enum needs a list"),
        ("tool send:", "tool se nd:", 13, "not `tool NAME: DESCRIPTION`"),
        ("- copies: integer?", "- copies: int?", 16, "unknown type 'int'"),
        ("{send#2.to.name}", "{send#2.to.nome}", 20, "'send#2.to.nome'"),
        ("- copies: integer? = a pair of -> 2 | 3..9", "- copies: integer? = 1..20*0.01", 16, "makes no integer"),
        ("1.5..14/1*0.01", "0.1..0.9", 5, "drawn without decimals; 0.1..0.9/1 has one"),
        ("gets a letter.", "gets a letter. => tags=[1, 2]", 19, "is no string"),
        ("gets a letter.", "gets a letter. => to.city=Oslo", 19, "'to.city' stands in a slot and after =>"),
        ("on {principal} dollars.", "on {principal} dollars. => rate=0.1", 10, "'rate' stands in a slot"),
        (
            "at {monthly_payment.rate}%.",
            "at {monthly_payment.rate}%. => send#2.to.name=Ann",
            20,
            "'to.name' stands in a slot",
        ),
        ("! Is it wise to borrow now?", "- note: string = @phrase ; A note.", 11, "right below its tool"),
        ("! Is it", "% Is it", 11, "starts like no line"),
        ("// Where to? //", "//", 21, "user's turn first and last"),
        ("so. => send()", "so.", 22, "2 calls in a line that starts with ~"),
        ("## loans", "", 3, "out of place|out of range"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(old: str, new: str, line: int, why: str) -> None:
    with pytest.raises(DataError, match=why) as caught:
        read_families(LOANS.replace(old, new, 1).splitlines(), "loans.txt")
    assert f"line {line}" in str(caught.value)


def test_a_number_of_its_own_takes_the_place_of_a_value_for_all() -> None:
    text = LOANS.replace("on {principal} dollars.", "on {principal} dollars; the latter is 9000. => 2.principal=9000")
    (request,) = read_families(text.splitlines(), "loans.txt")[0].tools["monthly_payment"].several
    assert [call.fixed for call in request.calls] == [{}, {"principal": 9000}]


def test_a_text_that_holds_a_scaled_number_writes_it_plainly() -> None:
    text = "## f\ntool a: A.\n- z: string = 1000..5000*1000 ; Z.\n- y: string = 11..99*0.001 ; Y.\n? {z} {y}"
    tool = read_families(text.splitlines(), "f.txt")[0].tools["a"]
    for seed in range(20):
        z, y = (draw(tool.parameters[name], values(seed)) for name in "zy")
        assert z.value == z.said + "000"
        assert float(y.value) == pytest.approx(int(y.said) / 1000)
        assert y.value.startswith("0.0")


TWO = """
## mail
tool search: Search mail.
- query: string = @word ; Words.
? find {query} in the mail
! Who wrote the first mail?
tool open_mail: Open a mail.
- id: string = @id ; Which.
? open mail {id}
+ search my mail for {search.query} and open {open_mail.id}
## web
tool search: Search the web.
- q: string = @word ; Words.
? look up {q}
tool bookmark: Keep a page.
- page: string = @word ; Which.
? keep {page}
! What is a page?
"""


def test_a_tool_of_another_family_is_another_tool_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("\ufeff" + TWO, encoding="utf-8")  # as editors on Windows begin it
    out = tmp_path / "new" / "lines.jsonl"
    command = ["train", "lines", str(tmp_path / "two.txt"), "--count", "300", "--no-call", "0.3", "--out", str(out)]
    assert CliRunner().invoke(cli, command).exit_code == 0
    assert examine(out).bad == 0
    unasked = 0
    for example in read_examples(out):
        if not example.calls:
            unasked += 1
            names = {"search", "open_mail"} if "mail" in example.request else {"search", "bookmark"}
            assert {tool.name for tool in example.tools} <= names
            words = {tool.description.split()[-1] for tool in example.tools if tool.name == "search"}
            assert words <= ({"mail."} if "mail" in example.request else {"web."})
    assert 60 < unasked < 120


def test_lines_on_stdout_are_utf_8_whatever_the_terminal_is(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("## f\ntool a: A.\n- c: string = Łódź ; C.\n? go to {c}", encoding="utf-8")
    result = CliRunner(charset="cp1252").invoke(cli, ["train", "lines", str(tmp_path / "f.txt"), "--count", "2"])
    assert result.exit_code == 0
    assert "Łódź" in result.stdout_bytes.decode("utf-8")


def test_a_file_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_families([tmp_path / "f.txt"])


def test_a_hidden_tool_takes_its_lines_along() -> None:
    (family,) = Bank([loans()], values(), but=["Send"]).families
    assert list(family.tools) == ["monthly_payment"]
    assert family.mixed == []
    assert [request.calls for request in family.talks] == [()]
    (family,) = Bank([loans()], values(), but=["monthly_payment"]).families
    assert [len(request.calls) for request in family.talks] == [
        1,
        0,
    ]  # not the one that borrows the hidden tool's slots


def test_what_no_request_says_is_found() -> None:
    family = read_families(LOANS.replace(", labelled {tags}", "").splitlines(), "loans.txt")[0]
    assert "send: no request says tags" in unwritten(family)


def test_only_common_words_lose_their_capital() -> None:
    assert lower_start("Find the door.") == "find the door."
    assert lower_start("Anna gets it.") == "Anna gets it."
    assert lower_start("I need it") == "I need it"


def test_the_whole_bank_draws_valid_calls_whose_values_are_said() -> None:
    families = load_families()
    tools = [one for family in families for one in family.tools.values()]
    assert len(families) > 200
    assert len(tools) > 900
    bank = Bank(families, values(1))
    for family in families:
        load_tools(
            [{"name": o.tool.name, "description": o.tool.description, "parameters": dict(o.tool.parameters)}
             for o in family.tools.values()]
        )  # fmt: skip
        obeys = {name: jsonschema.Draft202012Validator(dict(o.tool.parameters)) for name, o in family.tools.items()}
        for validator in obeys.values():
            validator.check_schema(validator.schema)
        written = [r for one in family.tools.values() for r in (*one.single, *one.several)] + family.mixed
        for request in written:
            example = bank._drawn(family, request)
            assert example.calls
            for call in example.calls:
                obeys[call.name].validate(dict(call.arguments))


def test_a_value_is_said_as_it_is_drawn() -> None:
    maker = values(2)
    for family in load_families():
        for one in family.tools.values():
            for parameter in one.parameters.values():
                if parameter.type != "boolean":
                    value = draw(parameter, maker)
                    assert value.said == value.said.strip() != ""


def test_lines_are_training_lines_and_the_same_again(tmp_path: Path) -> None:
    (tmp_path / "loans.txt").write_text(LOANS, encoding="utf-8")
    command = ["train", "lines", str(tmp_path / "loans.txt"), "--count", "60", "--no-call", "0.2"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    (tmp_path / "drawn.jsonl").write_text(result.stdout, encoding="utf-8")
    examples = list(read_examples(tmp_path / "drawn.jsonl"))
    assert len({example.id for example in examples}) == 60
    assert 3 <= sum(not example.calls for example in examples) <= 25
    for example in examples:
        assert {call.name for call in example.calls} <= {tool.name for tool in example.tools}
    out = tmp_path / "lines.jsonl"
    assert CliRunner().invoke(cli, [*command, "--out", str(out)]).exit_code == 0
    assert out.read_text(encoding="utf-8") == result.stdout
    along = CliRunner().invoke(cli, ["train", "lines", "--count", "60"])  # to be put into one file with these
    assert not {example.id for example in examples} & {json.loads(line)["id"] for line in along.stdout.splitlines()}


def test_a_bank_without_requests_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("## x\ntool a: Does it.\n", encoding="utf-8")
    result = CliRunner().invoke(cli, ["train", "lines", str(tmp_path / "x.txt")])
    assert result.exit_code == 2
    assert "has a request" in result.output


def test_the_example_of_the_documentation_is_a_bank_in_which_nothing_lacks_but_requests() -> None:
    page = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    block = page.split("```text\n## letters")[1].split("```")[0]
    (family,) = read_families(("## letters" + block).splitlines(), "training.md")
    assert all("lines that start with ?" in lack for lack in unwritten(family))
    assert len(Bank([family], values()).families[0].tools) == 2
