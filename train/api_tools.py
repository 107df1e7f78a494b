"""Tools out of real API descriptions, for requests that synth.py makes: what they do is said in the words of their
makers.

Found requests cover some hundreds of tools, and the bank of synth.py a few hundred actions; 47,000 published API
schemas (raw/rapidapi_schemas) say in one sentence each what something does. A request made out of that sentence is
near to its tool in meaning and words, and far from its neighbours: choosing is learned from many such.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolace_edge.messages import Tool

from .examples import flat_name, name_words
from .made import Made, Noun, Slot

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,30}")
_OPENING = re.compile(
    r"^(this |the )?(api|endpoint|route|method|request|service|function|operation|call)?\s*"
    r"(that |which |is |will |can |to |used |allows? (you|users?) )*(to )?",
    re.IGNORECASE,
)
_VERBS = {
    "get": "get", "gets": "get", "return": "get", "returns": "get", "retrieve": "retrieve", "retrieves": "retrieve",
    "fetch": "fetch", "fetches": "fetch", "list": "list", "lists": "list", "search": "search", "searches": "search",
    "find": "find", "finds": "find", "check": "check", "checks": "check", "create": "create", "creates": "create",
    "delete": "delete", "deletes": "delete", "update": "update", "updates": "update", "calculate": "calculate",
    "calculates": "calculate", "convert": "convert", "converts": "convert", "generate": "generate", "generates":
    "generate", "send": "send", "sends": "send", "show": "show", "shows": "show", "provides": "get", "obtain": "get",
    "add": "add", "adds": "add", "translate": "translate", "download": "download", "validate": "validate",
    "validates": "validate", "detect": "detect", "analyze": "analyze", "lookup": "look up", "compute": "compute",
    "computes": "compute", "remove": "remove", "set": "set", "verify": "verify", "encode": "encode", "extract":
    "extract", "query": "query", "display": "show", "estimate": "estimate", "predict": "predict", "compare":
    "compare",
}  # fmt: skip
_AFTER_VERBS = frozenset("a an the all your this that one any from for to with details data info information".split())
# What a parameter's name says of its values, the first that fits.
_KINDS = (
    (r"lat|lon|lng|latitude|longitude|price|amount|weight|height|rate|radius|score", "float"),
    (r"limit|page|offset|count|size|number|num|per_page|skip|quantity|days|hours|minutes|age|top|max|min|duration",
    "int"), (r"year", "year"), (r"date|from|to|start|end|day|since|until", "date"), (r"time", "time"), (r"email|mail",
    "email"), (r"url|link|website|domain|host|uri|image", "url"),
    (r"city|town|location|place|address|origin|destination", "city"), (r"country|region|nation", "country"),
    (r"symbol|ticker|currency|coin|base|pair", "symbol"),
    (r"id|uid|uuid|code|zip|isbn|barcode|sku|hash|postcode|imei|vin|token", "id"),
    (r"name|username|user|author|artist|player|team|brand", "name"), (r"title|movie|song|album|book|game", "title"),
    (r"word|term|tag|category|type|genre|language|lang|sort|order|format", "word"),
)  # fmt: skip


class ApiTools:
    """Draws tools from `apis`, parsed lines of the schemas; those named in `but` (tools of an evaluation) stay out."""

    def __init__(self, rng: random.Random, apis: Sequence[Mapping[str, Any]], but: Collection[str] = ()) -> None:
        self.rng = rng
        hidden = {flat_name(name) for name in but}
        self.families: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for api in apis:
            if _usable(api) and flat_name(api["api"]) not in hidden and flat_name(api["tool"]) not in hidden:
                self.families[api["tool"]].append(api)
        self.all = [api for family in self.families.values() for api in family]

    def make(self, near: Made | None = None) -> Made:
        """A tool; with `near`, another of the same API where there is one."""
        family = self.families.get(near.family, []) if near is not None else []
        others = [api for api in family if near is not None and flat_name(api["api"]) not in flat_name(near.tool.name)]
        api = self.rng.choice(others or self.all)
        slots = tuple(self._slots(api["params"]))
        verb, thing = _purpose(api["description"])
        properties = {slot.name: slot.schema for slot in slots}
        required = [slot.name for slot in slots if slot.required]
        parameters = {"type": "object", "properties": properties, "required": required}
        description = " ".join(api["description"].split())[:200]
        tool = Tool(self._name(api, verb, thing), description, parameters)
        return Made(tool, verb, thing, slots, family=api["tool"])

    def _name(self, api: Mapping[str, Any], verb: str, thing: str) -> str:
        words: list[str] = [word for word in name_words(api["api"]) if word.isascii()][:5]
        if len(words) < 2 or self.rng.random() < 0.2:
            words = [*verb.split(), *name_words(thing)[:3]]
        style = self.rng.random()
        if style < 0.25:
            return (words[0].lower() + "".join(word.capitalize() for word in words[1:]))[:60]
        if style < 0.4:
            return f"{name_words(api['tool'])[0].lower()}.{'_'.join(words).lower()}"[:60]
        return "_".join(words).lower()[:60]

    def _slots(self, params: Sequence[Mapping[str, Any]]) -> Iterator[Slot]:
        sure = self.rng.randrange(len(params))
        for i, param in enumerate(params):
            words = " ".join(word.lower() for word in name_words(param["name"]))
            kind = _kind(param, words)
            schema: dict[str, Any] = {"type": _TYPE[kind] if param["type"] == "NUMBER" else "string"}
            if kind == "bool":
                schema["type"] = "boolean"
            text = " ".join(param["description"].split())
            if text and text.isascii():
                schema["description"] = text[:120]
            # Half of those that an API calls optional are what the request is about.
            required = bool(param["required"]) or i == sure or self.rng.random() < 0.3
            yield Slot(param["name"], Noun((words,), kind, (), ()), words, schema, required)


_TYPE = defaultdict(lambda: "string", int="integer", year="integer", float="number", count="integer")


def _kind(param: Mapping[str, Any], words: str) -> str:
    if param["type"] == "BOOLEAN":
        return "bool"
    last = words.split()[-1] if words else ""
    found = next((kind for pattern, kind in _KINDS if re.fullmatch(pattern, last)), None)
    if param["type"] == "NUMBER":
        return found if found in ("float", "int", "year") else "int"
    return "phrase" if found is None or found in ("float", "int", "year") else found


def _purpose(description: str) -> tuple[str, str]:
    """The first sentence as a verb and what it is done to."""
    sentence = re.split(r"[.;:(\n]", " ".join(description.split()), maxsplit=1)[0]
    words = _OPENING.sub("", sentence).split()
    verb = _VERBS.get(words[0].lower(), "") if words else ""
    if not verb and len(words) > 2 and words[1].lower() in _AFTER_VERBS:
        verb = words[0].lower()
    thing = words[1:] if verb else words
    if thing and thing[0].lower() in ("the", "a", "an"):
        thing = thing[1:]
    return verb or "get", " ".join(thing[:12])


def _usable(api: Mapping[str, Any]) -> bool:
    """Says in English what it does, and has parameters that a person could say."""
    text, params = api["description"], api["params"]
    if not (text.isascii() and 15 <= len(text) <= 260 and 0 < len(params) <= 6):
        return False
    if len(_purpose(text)[1].split()) < 2 or not name_words(api["tool"]) or re.search(r"https?:|[<>{}]", text):
        return False
    names = [param["name"] for param in params]
    secret = any(re.search(r"(?i)key|token|password|secret|auth", name) for name in names)
    fit = all(
        _NAME.fullmatch(name) and param["type"] in ("STRING", "NUMBER", "BOOLEAN")
        for name, param in zip(names, params, strict=True)
    )
    return fit and not secret and len({name.lower() for name in names}) == len(names)


def read_apis(path: Path) -> list[dict[str, Any]]:
    """The lines of apis.jsonl.gz."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
