"""JSON Schema of a tool's arguments: brought to one form that the decoder can hold, or refused with the keyword's path.

`normalise` accepts the dialects that dialects.py names and returns plain JSON Schema 2020-12 with these keywords only:

    type  enum  anyOf  properties  required  additionalProperties  items  prefixItems  minItems  maxItems
    minimum  maximum  exclusiveMinimum  exclusiveMaximum  multipleOf  minLength  maxLength  pattern  format
    allOf (of patterns only)  minProperties  maxProperties (of free-form objects only)  description  default

Everything else is resolved (`$ref`, `allOf`, `oneOf`, `const`), is an annotation, or is refused. The result allows what
the schema allows or less, never more. It allows less where JSON Schema is more generous than anyone means:

    an object with `properties` takes no other names, unless `additionalProperties` says so
    an array with `prefixItems` takes no further items, unless `items` says so or `minItems` asks for them
    a node without `type` has the type that its keywords are about: {"minLength": 1} is a string
    a required name that `properties` lacks is a property of any value
    `oneOf` becomes `anyOf` where no value can fit two alternatives, and is refused elsewhere

A schema that no value satisfies is refused, and so is one that refers to itself: its answers would have no bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any
from urllib.parse import unquote

from toolace_edge import dialects
from toolace_edge.closing import disjoint, finish
from toolace_edge.dialects import Node
from toolace_edge.errors import SchemaError
from toolace_edge.merging import EmptyError, merge
from toolace_edge.validate import check

__all__ = ["MAX_DEPTH", "MAX_NODES", "check", "normalise", "normalise_parameters"]

MAX_DEPTH = 24  # schemas inside schemas
MAX_NODES = 5000  # schemas in one tool, references followed
MAX_APART = 100  # alternatives of a oneOf that are not lists of values: each is compared with each other
MAX_CHAIN = 300  # properties on the way to the last one: native code recurses over them, up to 5 KB of stack each


def normalise(schema: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The schema in the form above; `path` names it in errors (`tools[2].function.parameters`). Raises SchemaError."""
    return finish(_Expansion(schema).expand(schema, path), path)


def normalise_parameters(schema: Mapping[str, Any] | None, path: str) -> dict[str, Any]:
    """A tool's `parameters`: one object, whose `properties` and `required` are always there.

    Without `properties` the tool takes no arguments, unless `additionalProperties` says that their names are free.
    """
    if schema is not None and not isinstance(schema, Mapping):
        raise SchemaError(path, f"must be a schema (an object), not {type(schema).__name__}")
    node = _Expansion(schema or {}).expand(schema or {}, path)
    if "object" not in node.get("type", ["object"]):
        raise SchemaError(f"{path}.type", "must be object: the arguments by name")
    for key in ("anyOf", "enum"):
        if key in node:
            raise SchemaError(path, "must be one plain object", hint="Move alternatives into a property.")
    if not node.get("properties") and not node.get("required"):
        node.setdefault("additionalProperties", False)
    finished = finish({**node, "type": ["object"]}, path)
    if (length := _chain(finished)) > MAX_CHAIN:
        raise SchemaError(path, f"has {length} properties one after and in another; {MAX_CHAIN} are the limit")
    return finished


def _chain(node: Any) -> int:
    """The most properties that stand one after another, or one in another, in a finished schema."""
    if not isinstance(node, Mapping):
        return 0
    inner = [*node.get("properties", {}).values(), *node.get("anyOf", ()), *node.get("prefixItems", ())]
    inner += [node.get("items"), node.get("additionalProperties")]
    return len(node.get("properties", ())) + max(map(_chain, inner))


class _Expansion:
    """First pass: one spelling, references and `allOf` merged in, alternatives told apart; objects still open."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.nodes = 0
        self.references: list[str] = []  # those we are inside of

    def expand(self, schema: Any, path: str, depth: int = 0) -> Node:
        """A node as dialects.translate writes it, its subschemas likewise, `anyOf` alone but for notes."""
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            limit = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_NODES} schemas"
            raise SchemaError(path, f"the schema is too large; {limit} are the limit")
        if schema is True:
            return {}
        if schema is False:
            raise EmptyError(path, "is false, so no value fits")
        if not isinstance(schema, Mapping):
            raise SchemaError(path, f"must be a schema (an object), not {type(schema).__name__}")
        node = dialects.translate(schema, path)
        self._expand_members(node, path, depth + 1)
        reference = node.pop("$ref", None)
        parts = [self._follow(reference, f"{path}.$ref", depth + 1)] if reference is not None else []
        for i, part in enumerate(node.pop("allOf", ())):
            parts.append(self.expand(part, f"{path}.allOf[{i}]", depth + 1))
        choices = [key for key in ("anyOf", "oneOf") if key in node]
        parts += [self._alternatives(node.pop(key), f"{path}.{key}", depth + 1) for key in choices]
        for part in parts:
            node = merge(node, part, path)
        return node

    def _expand_members(self, node: Node, path: str, depth: int) -> None:
        if "properties" in node:
            flagged = [name for name, value in node["properties"].items() if dialects.required_by_flag(value)]
            if flagged:
                node["required"] = list(dict.fromkeys([*node.get("required", ()), *flagged]))
            node["properties"] = {
                name: self._member(value, f"{path}.properties.{name}", depth)
                for name, value in node["properties"].items()
            }
        if "prefixItems" in node:
            node["prefixItems"] = [
                self.expand(value, f"{path}.prefixItems[{i}]", depth) for i, value in enumerate(node["prefixItems"])
            ]
        for key in ("items", "additionalProperties"):
            if key in node:
                node[key] = self._member(node[key], f"{path}.{key}", depth)

    def _member(self, schema: Any, path: str, depth: int) -> Any:
        """A subschema that may be False: then the member may not be given."""
        return False if schema is False else self.expand(schema, path, depth)

    def _follow(self, reference: str, path: str, depth: int) -> Node:
        if not reference.startswith("#"):
            raise SchemaError(path, f"{reference!r} lies outside this schema; only local references are followed")
        if reference != "#" and not reference.startswith("#/"):
            raise SchemaError(path, f"{reference!r} is an anchor; only a JSON pointer (#/$defs/NAME) is followed")
        if reference in self.references or reference == "#":
            raise SchemaError(
                path,
                f"{reference!r} refers to itself, so its values have no bound",
                hint="Write out as many levels as are needed.",
            )
        target: Any = self.root
        for key in reference[1:].split("/")[1:]:
            key = unquote(key).replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and key.isascii() and key.isdigit() and int(key) < len(target):
                target = target[int(key)]
            elif isinstance(target, Mapping) and key in target:
                target = target[key]
            else:
                raise SchemaError(path, f"{reference!r} is not there")
        self.references.append(reference)
        node = self.expand(target, path, depth)
        self.references.pop()
        return node

    def _alternatives(self, schemas: list[Any], path: str, depth: int) -> Node:
        branches = [self.expand(schema, f"{path}[{i}]", depth) for i, schema in enumerate(schemas)]
        if path.endswith(".oneOf"):
            _refuse_overlap(branches, path)
        flat = [alternative for branch in branches for alternative in branch.get("anyOf", [branch])]
        return {"anyOf": flat} if len(flat) > 1 else flat[0]


def _refuse_overlap(branches: list[Node], path: str) -> None:
    """oneOf: whatever fits one alternative must fit no other, which a grammar cannot look for while it writes."""
    if len(branches) > MAX_APART and not all("enum" in branch for branch in branches):
        raise SchemaError(path, f"has {len(branches)} alternatives to be told apart; {MAX_APART} are the limit")
    for (i, one), (j, other) in combinations(enumerate(branches), 2):
        if not disjoint(one, other, path):
            raise SchemaError(
                path,
                f"one value may fit both alternatives {i} and {j}, which oneOf forbids and the decoder cannot prevent",
                hint="Use anyOf, or give each alternative a required property with a `const` of its own.",
            )
