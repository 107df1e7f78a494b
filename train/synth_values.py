"""Values for made requests: what the call must hold, and how a person says it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_TYPES = {
    "int": "integer", "count": "integer", "year": "integer", "float": "number", "money": "number", "percent": "number",
    "fraction": "number", "bool": "boolean",
}  # fmt: skip
_SMALL = "zero one two three four five six seven eight nine ten eleven twelve".split()
_MONTHS = "January February March April May June July August September October November December".split()


def _listed(text: str) -> list[str]:
    return text.strip().replace("\n", "|").split("|")


_CITIES = _listed(
    """
Paris|London|New York|San Francisco|Tokyo|Berlin|Madrid|Rome|Sydney|Toronto|Los Angeles|Chicago|Boston|Seattle|Mumbai
Cairo|Lagos|Lima|Oslo|Vienna|Prague|Dublin|Miami|Dallas|Denver|Beijing|Shanghai|Seoul|Bangkok|Nairobi|Istanbul|Moscow
Amsterdam|Lisbon|Athens|Warsaw|Houston|Phoenix|Las Vegas|San Diego|Barcelona|Munich|Hamburg|Milan|Naples|Florence
Venice|Brussels|Copenhagen|Stockholm|Helsinki|Zurich|Geneva|Budapest|Bucharest|Sofia|Belgrade|Kyiv|Porto|Seville
Lyon|Marseille|Nice|Edinburgh|Glasgow|Manchester|Liverpool|Bristol|Leeds|Cambridge|Oxford|Montreal|Vancouver|Ottawa
Calgary|Mexico City|Havana|Bogota|Quito|Santiago|Buenos Aires|Montevideo|Rio de Janeiro|Sao Paulo|Caracas|Kingston
Cape Town|Johannesburg|Accra|Dakar|Casablanca|Tunis|Addis Ababa|Kampala|Dubai|Abu Dhabi|Doha|Riyadh|Amman|Beirut
Tel Aviv|Tehran|Karachi|Lahore|Delhi|New Delhi|Bangalore|Chennai|Kolkata|Hyderabad|Pune|Dhaka|Kathmandu|Colombo
Hanoi|Ho Chi Minh City|Singapore|Kuala Lumpur|Jakarta|Manila|Hong Kong|Taipei|Osaka|Kyoto|Sapporo|Busan|Melbourne
Brisbane|Perth|Auckland|Wellington|Honolulu|Anchorage|Portland|Austin|San Antonio|New Orleans|Atlanta|Orlando|Tampa
Nashville|Memphis|Philadelphia|Pittsburgh|Baltimore|Washington|Detroit|Cleveland|Minneapolis|St. Louis|Kansas City
Salt Lake City|Sacramento|Oakland|San Jose|Santa Fe|Boise|Omaha|Charlotte|Raleigh|Buffalo|Albany|Hartford|Reykjavik
"""
)
_COUNTRIES = _listed(
    """
France|Germany|Japan|Brazil|Canada|India|China|Italy|Spain|Mexico|Egypt|Kenya|Norway|Sweden|Poland|Turkey|Chile|Peru
USA|UK|Australia|Greece|United States|United Kingdom|South Korea|New Zealand|South Africa|Argentina|Colombia|Portugal
Netherlands|Belgium|Switzerland|Austria|Denmark|Finland|Iceland|Ireland|Hungary|Romania|Bulgaria|Ukraine|Croatia
Czech Republic|Israel|Jordan|Saudi Arabia|Qatar|Iran|Pakistan|Bangladesh|Nepal|Sri Lanka|Thailand|Vietnam|Malaysia
Singapore|Indonesia|Philippines|Mongolia|Kazakhstan|Morocco|Tunisia|Algeria|Nigeria|Ghana|Senegal|Ethiopia|Uganda
Tanzania|Zambia|Cuba|Jamaica|Costa Rica|Panama|Ecuador|Bolivia|Uruguay|Paraguay|Venezuela|Estonia|Latvia|Lithuania
"""
)
_FIRST = """
John Mary Anna Peter Maria David Laura James Emma Lucas Sofia Ahmed Wei Priya Carlos Elena Tom Alice Bob Sarah Michael
Linda Omar Yuki Hans Ivan Grace Daniel Olivia Noah Chloe Ethan Mia Liam Zoe Oscar Ruth Victor Nina Samuel Clara Hugo
Fatima Hassan Aisha Raj Anita Kenji Hana Mei Chen Diego Lucia Pablo Ines Marco Giulia Pierre Camille Jonas Lena Erik
Astrid Ola Kofi Amara Chidi Tariq Layla Dmitri Olga Tomas Eva Janet Kevin Rachel Brian Megan Frank Helen George Irene
""".split()
_LAST = """
Smith Johnson Brown Garcia Miller Davis Lopez Wilson Anderson Taylor Moore Lee White Harris Clark Walker Young King
Wright Scott Green Baker Khan Silva Nguyen Patel Sato Tanaka Kim Park Wang Zhang Muller Schmidt Weber Rossi Ferrari
Dubois Moreau Novak Kowalski Ivanov Petrov Andersson Hansen Nielsen Murphy Kelly Osei Okafor Mensah Haddad Cohen Levy
Torres Ramirez Castro Mendes Pereira Costa Hughes Bennett Foster Reed Cooper Morgan Bailey Brooks Price Ross Hayes
""".split()
_COMPANIES = _listed(
    """
Acme Corp|Globex|Initech|Northwind Traders|Contoso|Apple|Google|Microsoft|Amazon|Tesla|Toyota|Siemens|Nestle|Samsung
Sony|IBM|Intel|Nvidia|Oracle|Netflix|Adobe|Spotify|Airbus|Boeing|Shell|BP|Pfizer|Bayer|Unilever|Ikea|Nike|Adidas
Coca-Cola|Starbucks|Walmart|Target|FedEx|DHL|Visa|Mastercard|Goldman Sachs|Deutsche Bank|Blue Harbor Ltd|Sunrise Foods
Green Valley Farms|Delta Logistics|Orion Software|Maple Street Bakery|Redwood Partners|Silverline Media|Harbor & Sons
"""
)


@dataclass(frozen=True, slots=True)
class Value:
    """`value` as JSON holds it, `said` as the request says it."""

    value: Any
    said: str


def enumerated(rng: random.Random, said: Sequence[str], last: Sequence[str]) -> str:
    """`a, b and c`; what stands before the last is one of `last`."""
    return ", ".join(said[:-1]) + rng.choice(last) + said[-1] if len(said) > 1 else said[0]


class ValueMaker:
    """Draws values of a kind. `phrases` are texts that people said; `lexicon` is every word there is.

    Half of all texts are words put together at random: what was never seen before can only be copied, not remembered.
    """

    def __init__(self, rng: random.Random, phrases: Sequence[str], lexicon: Sequence[str]) -> None:
        self.rng = rng
        self.phrases = phrases
        self.lexicon = lexicon

    def schema(self, kind: str, choices: Sequence[str]) -> dict[str, Any]:
        """A JSON Schema for values of this kind."""
        if kind == "enum":
            return {"type": "string", "enum": list(choices)} if self.rng.random() < 0.7 else {"type": "string"}
        if kind.startswith("list_"):
            inner = {"list_num": "number", "list_int": "integer"}.get(kind, "string")
            return {"type": "array", "items": {"type": inner}}
        if kind == "point":
            part = {"type": "number"}
            return {"type": "object", "properties": {"x": part, "y": part}, "required": ["x", "y"]}
        if kind == "person":
            return {
                "type": "object",
                "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                "required": ["name", "age"],
            }
        kind_type = _TYPES.get(kind, "string")
        if kind == "money" and self.rng.random() < 0.5:
            kind_type = "integer"
        return {"type": kind_type}

    def make(self, kind: str, choices: Sequence[str]) -> Value:
        if kind == "enum":
            choice = self.rng.choice(list(choices))
            return Value(choice, choice.replace("_", " "))
        if kind.startswith("list_"):
            return self._list(kind[5:])
        maker = getattr(self, f"_{kind}", None)
        if maker is None:
            raise ValueError(f"unknown kind of value {kind!r}")
        made: Value = maker()
        return made

    def of_kind(self, kind: str) -> Value:
        """A value of a kind that bank_format.py knows."""
        if kind == "date":
            made = self._date()
            while not made.value[:4].isdigit():
                made = self._date()
            return made
        if kind == "date_text":
            said = self._date().said
            return Value(said, said)
        return self.make({"person": "name"}.get(kind, kind), ())

    def _list(self, inner: str) -> Value:
        inner = {"num": "float"}.get(inner, inner)
        items = [self.make(inner, ()) for _ in range(self.rng.choice((2, 2, 3, 3, 3, 4, 5, 6)))]
        said = [item.said for item in items]
        form = self.rng.random()
        if inner in ("float", "int") and form < 0.6:
            text = "[" + ", ".join(said) + "]" if form < 0.4 else "(" + ", ".join(said) + ")"
        elif inner not in ("float", "int") and form < 0.12:
            text = "[" + ", ".join(f"'{s}'" for s in said) + "]"
        else:
            text = enumerated(self.rng, said, (" and ", ", and ", ", "))
        return Value([item.value for item in items], text)

    def _int(self) -> Value:
        rng = self.rng
        number = rng.choice((rng.randint(0, 12), rng.randint(0, 100), rng.randint(0, 1000), rng.randint(100, 50000)))
        if rng.random() < 0.05:
            number = -number
        if 0 <= number <= 12 and rng.random() < 0.25:
            return Value(number, _SMALL[number])
        return Value(number, f"{number:,}" if number >= 1000 and rng.random() < 0.35 else str(number))

    def _count(self) -> Value:
        number = self.rng.randint(1, 20)
        return Value(number, _SMALL[number] if number <= 12 and self.rng.random() < 0.4 else str(number))

    def _year(self) -> Value:
        year = self.rng.randint(1900, 2030)
        return Value(year, str(year))

    def _float(self) -> Value:
        if self.rng.random() < 0.45:
            return self._int()
        number = round(
            self.rng.choice((self.rng.uniform(0, 1), self.rng.uniform(0, 20), self.rng.uniform(0, 500))),
            self.rng.choice((1, 2, 2, 3)),
        )
        number = -number if self.rng.random() < 0.05 else number
        return Value(number, f"{number:g}") if abs(number) >= 0.001 else self._int()

    def _money(self) -> Value:
        number = self.rng.choice(
            (self.rng.randint(1, 99), self.rng.randint(1, 99) * 100, self.rng.randint(1, 500) * 1000)
        )
        said = f"{number:,}" if self.rng.random() < 0.6 else str(number)
        return Value(number, self.rng.choice((f"${said}", f"${said}", f"{said} dollars", said)))

    def _percent(self) -> Value:
        number = self.rng.choice((self.rng.randint(1, 60), round(self.rng.uniform(0.5, 15), 1)))
        return Value(number, self.rng.choice((f"{number}%", f"{number}%", f"{number} percent", f"{number}")))

    def _fraction(self) -> Value:
        """A rate that the call holds as a fraction of one: 4% is 0.04."""
        number = self.rng.choice((self.rng.randint(1, 60), round(self.rng.uniform(0.5, 15), 1)))
        value = round(number / 100, 5)
        return Value(value, self.rng.choice((f"{number}%", f"{number}%", f"{number} percent", f"{value:g}")))

    def _bool(self) -> Value:
        value = self.rng.random() < 0.65
        return Value(value, "true" if value else "false")

    def _date(self) -> Value:
        rng = self.rng
        year, month, day = rng.randint(1990, 2030), rng.randint(1, 12), rng.randint(1, 28)
        iso = f"{year}-{month:02}-{day:02}"
        if rng.random() < 0.55:
            return Value(iso, iso)
        name = _MONTHS[month - 1]
        ordinal = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
        text = rng.choice((f"{name} {day}, {year}", f"{day} {name} {year}", f"{name} {day}{ordinal}, {year}"))
        return Value(iso, text) if rng.random() < 0.5 else Value(text, text)

    def _time(self) -> Value:
        hour, minute = self.rng.randint(1, 12), self.rng.choice((0, 0, 15, 30, 45, 20))
        text = self.rng.choice(
            (f"{hour}:{minute:02} {self.rng.choice(('am', 'pm', 'AM', 'PM'))}", f"{hour + 6}:{minute:02}")
        )
        return Value(text, text)

    def _same(self, text: str) -> Value:
        return Value(text, text)

    def _city(self) -> Value:
        if self.rng.random() < 0.2:
            return self._same(self.rng.choice(self.lexicon).capitalize())
        return self._same(self.rng.choice(_CITIES))

    def _country(self) -> Value:
        return self._same(self.rng.choice(_COUNTRIES))

    def _place(self) -> Value:
        city = self.rng.choice(_CITIES)
        return self._same(
            self.rng.choice((city, f"{city}, {self.rng.choice(_COUNTRIES)}", self.rng.choice(_COUNTRIES)))
        )

    def _name(self) -> Value:
        if self.rng.random() < 0.3:
            return self._same(f"{self.rng.choice(_FIRST)} {self.rng.choice(self.lexicon).capitalize()}")
        first = self.rng.choice(_FIRST)
        return self._same(first if self.rng.random() < 0.4 else f"{first} {self.rng.choice(_LAST)}")

    def _first_name(self) -> Value:
        return self._same(self.rng.choice(_FIRST))

    def _company(self) -> Value:
        if self.rng.random() < 0.2:
            form = self.rng.choice(("Inc", "Ltd", "Group", "AG"))
            return self._same(f"{self.rng.choice(self.lexicon).capitalize()} {form}")
        return self._same(self.rng.choice(_COMPANIES))

    def _text(self) -> str:
        if self.rng.random() < 0.5:
            return self.rng.choice(self.phrases)
        return " ".join(self.rng.choice(self.lexicon) for _ in range(self.rng.choice((1, 2, 2, 3, 3, 4, 5, 7))))

    def _phrase(self) -> Value:
        return self._same(self._text())

    def _title(self) -> Value:
        return self._same(" ".join(word.capitalize() for word in self._text().split()))

    def _word(self) -> Value:
        return self._same(self.rng.choice(self._text().split()).strip(".,!?\"'") or "it")

    def _id(self) -> Value:
        rng = self.rng
        letters = "".join(rng.choice("ABCDEFGHKLMNPRSTUVXYZ") for _ in range(rng.randint(1, 3)))
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 6)))
        return self._same(rng.choice((digits, letters + digits, f"{letters}-{digits}", letters.lower() + "_" + digits)))

    def _symbol(self) -> Value:
        return self._same(
            self.rng.choice("AAPL GOOG TSLA MSFT AMZN NFLX BTC ETH USD EUR JPY GBP INR IBM NVDA META".split())
        )

    def _email(self) -> Value:
        first, last = self.rng.choice(_FIRST).lower(), self.rng.choice(_LAST).lower()
        return self._same(f"{first}.{last}@{self.rng.choice(('example.com', 'mail.org', 'company.net'))}")

    def _url(self) -> Value:
        return self._same(
            f"https://{self.rng.choice(('www.', ''))}{self._word().value.lower()}"
            f".{self.rng.choice(('com', 'org', 'io/page'))}"
        )

    def _point(self) -> Value:
        x, y = self._int(), self._int()
        return Value({"x": x.value, "y": y.value}, f"({x.value}, {y.value})")

    def _person(self) -> Value:
        name, age = self._name(), self.rng.randint(2, 90)
        return Value({"name": name.value, "age": age}, f"{name.said} ({age})")
