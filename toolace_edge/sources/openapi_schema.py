"""The schemas of an OpenAPI document as those of a tool: references kept, what only answers hold left out.

Schema.py reads 3.0's own keywords (`nullable`, boolean `exclusiveMinimum`) and refuses what cannot be held. Here goes

    readOnly properties, which requests must not hold, with their places in `required`, across `allOf`
    beside a 3.0 `$ref` everything but its description, as 3.0 says
    in 3.1, `nullable`, which JSON Schema 2020-12 does not know
    a format that is not known: OpenAPI lets a reader fall back to the type; the description then names the format
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count
from typing import Any

from toolace_edge.errors import SchemaError
from toolace_edge.patterns import FORMATS
from toolace_edge.schema import MAX_NODES, normalise
from toolace_edge.sources.base import MAX_NOTE
from toolace_edge.sources.openapi_document import Document
from toolace_edge.sources.openapi_text import plain

_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_SEVERAL = ("anyOf", "oneOf", "prefixItems")
_KNOWN_FORMATS = FORMATS | {"url", "int32", "int64", "float", "double", "password"}
MAX_LEVEL = 100  # schemas inside schemas, those of schema.py's limit and those that it never sees
_NO_NAMES: frozenset[str] = frozenset()


def read_schema(document: Document, schema: Any, path: str) -> dict[str, Any]:
    """What a request may hold where the document has `schema`, in schema.py's form. Raises SchemaError."""
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    if not isinstance(schema, Mapping):
        raise SchemaError(path, f"must be a schema (an object), not {type(schema).__name__}")
    reader = _Reader(document, path)
    node = reader.read(schema, _NO_NAMES)
    return normalise({**node, "$defs": reader.definitions}, path)


class _Reader:
    """One pass over a schema and what it refers to; each target becomes an entry of `$defs`, once."""

    def __init__(self, document: Document, path: str) -> None:
        self.document = document
        self.path = path
        self.definitions: dict[str, Any] = {}
        self._names: dict[tuple[str, frozenset[str], bool], str] = {}
        self._nodes = self._level = 0

    def read(self, schema: Any, hidden: frozenset[str], within: bool = False) -> Any:
        """The schema without the properties of `hidden` and those that are read-only; `within` an allOf."""
        if not isinstance(schema, Mapping):
            return schema
        self._nodes += 1
        if self._nodes > MAX_NODES or self._level > MAX_LEVEL:
            limit = f"{MAX_NODES} schemas" if self._nodes > MAX_NODES else f"{MAX_LEVEL} levels"
            raise SchemaError(self.path, f"the schema is too large; {limit} are the limit")
        self._level += 1
        node = self._read(schema, hidden, within)
        self._level -= 1
        return node

    def _read(self, schema: Mapping[str, Any], hidden: frozenset[str], within: bool) -> dict[str, Any]:
        if "$ref" in schema and self.document.version == "3.0":
            schema = {key: schema[key] for key in ("$ref", "description") if key in schema}
        hidden = hidden | self._read_only_names(schema, set())
        node = {key: self._keyword(key, value, hidden, within) for key, value in schema.items() if key != "$defs"}
        if self.document.version == "3.1":
            node.pop("nullable", None)
        _drop_unknown_format(node)
        if "description" in node:
            node["description"] = plain(node["description"], MAX_NOTE)
        if schema.get("properties") and not node["properties"] and not within:
            node.setdefault("additionalProperties", False)  # or the object would become one of any names
        if not node.get("properties", True) and within:
            del node["properties"]
        return node

    def _keyword(self, key: str, value: Any, hidden: frozenset[str], within: bool) -> Any:
        if key == "$ref":
            return self._define(value, hidden, within)
        if key == "properties" and isinstance(value, Mapping):
            return {name: self.read(one, _NO_NAMES) for name, one in value.items() if name not in hidden}
        if key == "required" and isinstance(value, list):
            return [name for name in value if name not in hidden]
        if key == "allOf" and isinstance(value, list):
            return [self.read(one, hidden, within=True) for one in value]
        if key in _SEVERAL and isinstance(value, list):
            return [self.read(one, _NO_NAMES if key == "prefixItems" else hidden) for one in value]
        return self.read(value, _NO_NAMES) if key in _ONE else value

    def _define(self, reference: Any, hidden: frozenset[str], within: bool) -> str:
        target = self.document.at(reference, self.path)
        key = (reference, hidden, within)
        if key not in self._names:
            last = "".join(char if char.isalnum() else "_" for char in reference.rsplit("/", 1)[-1])
            free = (f"{last}_{number}" for number in count(2))
            name = next(one for one in chain([last], free) if one not in self.definitions)
            self._names[key] = name
            self.definitions[name] = {}  # taken, while what refers to itself is read
            self.definitions[name] = self.read(target, hidden, within)
        return f"#/$defs/{self._names[key]}"

    def _read_only_names(self, schema: Any, seen: set[int]) -> frozenset[str]:
        """Properties of the schema, or of a part of its allOf, that only answers hold."""
        if isinstance(schema, Mapping) and "$ref" in schema and seen:
            schema = self.document.follow(schema, self.path)
        if not isinstance(schema, Mapping) or id(schema) in seen:
            return _NO_NAMES
        seen.add(id(schema))
        members = schema.get("properties")
        own = {name for name, one in members.items() if self._is_read_only(one)} if isinstance(members, Mapping) else ()
        parts = schema.get("allOf")
        return frozenset(own).union(
            *(self._read_only_names(part, seen) for part in (parts if isinstance(parts, list) else ()))
        )

    def _is_read_only(self, schema: Any) -> bool:
        if not isinstance(schema, Mapping):
            return False
        target = self.document.follow(schema, self.path)
        return schema.get("readOnly") is True or (isinstance(target, Mapping) and target.get("readOnly") is True)


def _drop_unknown_format(node: dict[str, Any]) -> None:
    name = node.get("format")
    if isinstance(name, str) and name not in _KNOWN_FORMATS:
        del node["format"]
        described = node.get("description")
        node["description"] = f"{plain(described, MAX_NOTE - len(name) - 12)} (format: {name})".strip()
