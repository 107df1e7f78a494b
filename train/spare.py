"""Tools as real APIs have them: a few arguments that are asked for among many that are not.

Found lines and the bank's show tools whose arguments nearly all come up. An API's tool has ten or twenty optional ones
(pages, fields, webhooks, keys), and a model that never saw these fills them in. So optional parameters of published
API schemas (raw/rapidapi_schemas) join a scene's tools, several of one API, and the answers stay as they are: none
that a request of the scene might mean.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toolace_edge.messages import Tool

from .examples import name_words

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{1,30}")
_TYPES = {"STRING": "string", "BOOLEAN": "boolean", "LIST": "array", "ARRAY": "array", "MAP": "object",
          "JSON": "object", "SELECT": "string", "ENUM": "string", "DATEPICKER": "date", "NUMBER": "number"}  # fmt: skip


def _words(text: str) -> set[str]:
    return {word.lower().rstrip("s") if len(word) > 3 else word.lower() for word in name_words(text)}


_COUNTED = _words("limit page offset count size num number skip width height max min per radius quality")
# What a request may say in words of its own, so that whether an argument was meant cannot be seen.
_SAID = _words(
    "name title text message content query search keyword term subject description note city country location place "
    "address state region category type kind genre artist song album movie room device color brand model user person "
    "author username email phone language lang currency unit value rating topic item product tag label status symbol "
    "origin destination team league player word sentence q s first last surname to from owner recipient"
)
_TIMED = _words(
    "date time day when hour minute week month year since until before after start end begin created updated modified "
    "schedule deadline due expire expiry expiration timestamp age duration period season"
)
_NUMBERED = _words("id uid uuid code amount price cost total lat lon lng latitude longitude quantity")
_TIMES = re.compile(
    r"\d|\b(today|tonight|tomorrow|yesterday|now|noon|midnight|morning|evening|afternoon|week|month|year|daily|hour|"
    r"(mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|may|june|july|august|september|october|"
    r"november|december|first|last|next|one|two|three|four|five|six|seven|eight|nine|ten)",
    re.IGNORECASE,
)
_CHOICES = (
    ("order", ("asc", "desc")), ("sort_direction", ("ascending", "descending")), ("format", ("json", "xml", "csv")),
    ("interval", ("day", "week", "month", "year")), ("visibility", ("public", "private", "internal")),
    ("mode", ("fast", "accurate")), ("encoding", ("utf-8", "base64")), ("scope", ("own", "all")),
    ("payment_behavior", ("default_incomplete", "error_if_incomplete")), ("tax_behavior", ("inclusive", "exclusive")),
    ("response_type", ("full", "summary")), ("archived", ("true", "false", "all")), ("priority", ("low", "high")),
    ("access_level", ("guest", "reporter", "developer", "maintainer")), ("view", ("list", "tree", "flat")),
    ("collection_method", ("charge_automatically", "send_invoice")), ("merge_method", ("merge", "squash", "rebase")),
)  # fmt: skip


class SpareArguments:
    """Optional parameters of published APIs, by API."""

    def __init__(self, rng: random.Random, apis: Iterable[Mapping[str, Any]]) -> None:
        self.rng = rng
        families: dict[str, dict[str, dict[str, Any]]] = {}
        for api in apis:
            for param in api["params"]:
                schema = _schema(param)
                if schema is not None:
                    families.setdefault(api["tool"], {}).setdefault(param["name"], schema)
        self.families = [list(family.items()) for family in families.values() if len(family) >= 4]

    def add(self, tools: Sequence[Tool], requests: str, most: int) -> list[Tool]:
        """The tools, each with up to `most` more optional arguments, none of which `requests` might mean."""
        said, timed = _words(requests), bool(_TIMES.search(requests))
        return [self._wider(tool, said, timed, most) for tool in tools]

    def _wider(self, tool: Tool, said: set[str], timed: bool, most: int) -> Tool:
        own = tool.parameters.get("properties", {})
        wanted = self.rng.randint(0, most)
        taken = set().union(*(_words(name) for name in own), said)
        spare: dict[str, Any] = {}
        for name, schema in self._drawn():
            if len(spare) >= wanted:
                break
            if name not in own and not _words(name) & taken and not _may_be_meant(name, schema, timed):
                spare[name] = schema
        if len(spare) > 3 and self.rng.random() < 0.25:
            spare = self._grouped(spare, {*own, *spare})
        items = [*own.items(), *spare.items()]
        if self.rng.random() < 0.6:
            self.rng.shuffle(items)
        return Tool(tool.name, tool.description, {**tool.parameters, "properties": dict(items)})

    def _drawn(self) -> list[tuple[str, dict[str, Any]]]:
        """Parameters of two APIs, and some choices, in any order."""
        found = [pair for _ in range(2) for pair in self.rng.choice(self.families)]
        for name, values in self.rng.sample(_CHOICES, 3):
            found.append((name, {"type": "string", "enum": list(values)}))
        self.rng.shuffle(found)
        return found

    def _grouped(self, spare: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
        """The same, some of them as members of an object, or of a list of objects."""
        names = self.rng.sample(list(spare), self.rng.randint(2, min(5, len(spare))))
        name = self.rng.choice(("options", "settings", "metadata", "details", "payload", "extra", "context"))
        if name in taken:
            return dict(spare)
        group = {"type": "object", "properties": {each: spare[each] for each in names}}
        group = group if self.rng.random() < 0.7 else {"type": "array", "items": group}
        return {each: schema for each, schema in spare.items() if each not in names} | {name: group}


def _schema(param: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameter as JSON Schema; None where it says nothing, or is asked for always."""
    text = " ".join(str(param.get("description") or "").split())
    kind = _TYPES.get(param["type"])
    if (
        param["required"]
        or kind is None
        or not _NAME.fullmatch(param["name"])
        or not (text.isascii() and len(text) > 7)
    ):
        return None
    schema: dict[str, Any] = {"type": "string" if kind == "date" else kind, "description": text[:200]}
    if kind == "date":
        schema["format"] = "date"
    elif kind == "number":
        schema["type"] = "integer" if _words(param["name"]) & (_COUNTED | _NUMBERED) else "number"
    elif kind == "array":
        schema["items"] = {"type": "string"}
    return schema


def _may_be_meant(name: str, schema: Mapping[str, Any], timed: bool) -> bool:
    """Could a request's words belong in this argument? `timed`: the request holds a number or a time."""
    words = _words(name)
    if schema["type"] in ("integer", "number") or words & (_TIMED | _NUMBERED | _COUNTED):
        return timed
    return bool(words & _SAID) and schema["type"] != "boolean"
