"""Second pass over a schema: closed, cut to what its types can have, and proven to allow some value.

Takes nodes as merging.py leaves them and writes plain JSON Schema. Where JSON Schema is more generous than anyone means
(see schema.py) the result is narrower; a schema that allows nothing raises EmptyError with the path of the keyword.
"""

from __future__ import annotations

import json
from math import ceil, floor, inf
from typing import Any

from toolace_edge import patterns
from toolace_edge.dialects import MAX_SAFE, Node
from toolace_edge.errors import SchemaError
from toolace_edge.merging import EmptyError, attempt, merge
from toolace_edge.validate import check, has_type, same_json

_TYPES = ("object", "array", "string", "number", "boolean", "null")
_OF_TYPE = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("prefixItems", "items", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "patterns", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def disjoint(one: Node, other: Node, path: str) -> bool:
    """Provably no value fits both, by their keywords alone: a reader need not assert formats, and may know others.

    Each type by itself, as what one type's keywords forbid says nothing about the others.
    """
    if "enum" in one and "enum" in other:
        return not any(same_json(value, also) for value in one["enum"] for also in other["enum"])
    one, other = _without_formats(one), _without_formats(other)
    for name in _TYPES:
        try:
            both = merge(merge({"type": [name]}, one, path), merge({"type": [name]}, other, path), path)
            finish(both, path, narrow=False)
        except EmptyError:
            continue
        except SchemaError:
            return False
        return False
    return True


def _without_formats(node: Any) -> Any:
    """The node without formats, and without the bounds that a format of integers gave it."""
    if isinstance(node, list):
        return [_without_formats(one) for one in node]
    if not isinstance(node, dict):
        return node
    gone = {"format", "by_format", *node.get("by_format", ())}
    done = {key: value for key, value in node.items() if key not in gone}
    done |= {key: _without_formats(done[key]) for key in ("anyOf", "prefixItems", "items") if key in done}
    if "additionalProperties" in done:
        done["additionalProperties"] = _without_formats(done["additionalProperties"])
    if "properties" in done:
        done["properties"] = {name: _without_formats(one) for name, one in done["properties"].items()}
    return done


def finish(node: Node, path: str, narrow: bool = True) -> Node:
    """Second pass: closed, cut to what its types can have, proven to allow some value.

    `narrow=False` does without what the module's docstring lists, so that EmptyError is raised only where the schema
    as it was written allows nothing.
    """
    notes: Node = {key: node[key] for key in ("description", "default") if key in node}
    if "anyOf" in node:
        left = _finish_alternatives(node["anyOf"], path, narrow)
        return {"anyOf": left, **notes} if len(left) > 1 else {**left[0], **notes}
    types = _types(node, narrow)
    if types is None:
        return {**({"enum": node["enum"]} if "enum" in node else {}), **notes}
    done = _finish_types(node, types, path, narrow)
    if "enum" in node:
        done = _finish_enum(node["enum"], done, path)
    return {**done, **notes}


def _finish_types(node: Node, types: list[str], path: str, narrow: bool) -> Node:
    """What each type's keywords come to. A type that they leave no value goes, as long as another is left."""
    steps: dict[str, tuple[Any, ...]] = {
        "object": (_finish_object, node, path, narrow), "array": (_finish_array, node, path, narrow),
        "string": (_finish_string, node, path), "number": (_finish_number, node, False, path),
        "integer": (_finish_number, node, True, path),
    }  # fmt: skip
    made: dict[str, Node] = {}
    empty: EmptyError | None = None
    for name in types:
        found = attempt(*steps[name]) if name in steps else {}
        if isinstance(found, EmptyError):
            empty = empty or found
        else:
            made[name] = found
    if not made and empty is not None:
        raise empty
    done: Node = {"type": next(iter(made)) if len(made) == 1 else list(made)}
    for found in made.values():
        done |= found
    return done


def _finish_alternatives(branches: list[Node], path: str, narrow: bool) -> list[Node]:
    """Those that some value fits: one that none fits can go, as long as another is left."""
    found = [attempt(finish, branch, f"{path}.anyOf[{i}]", narrow) for i, branch in enumerate(branches)]
    done = {json.dumps(branch): branch for branch in found if not isinstance(branch, EmptyError)}
    if not done:
        raise EmptyError(f"{path}.anyOf", "no value fits any of the alternatives")
    return list(done.values())


def _types(node: Node, narrow: bool) -> list[str] | None:
    """The node's types, the ones its keywords are about, or None where it has neither."""
    types: list[str] = list(node.get("type", ()))
    if not types and (narrow or "enum" in node):
        types = [name for name, keys in _OF_TYPE.items() if any(key in node for key in keys)]
        if "enum" in node and types:  # keywords say nothing about values of other types
            types = list(dict.fromkeys([*types, "object", "array", "string", "number", "boolean", "null"]))
    if "number" in types and "integer" in types:
        types.remove("integer")
    return types or None


def _finish_enum(values: list[Any], rest: Node, path: str) -> Node:
    allowed = [value for value in values if not check(rest, value)]
    if not allowed:
        problems = check(rest, values[0], "its first value")
        raise EmptyError(f"{path}.enum", f"none of its values is allowed; {problems[0]}")
    types = [rest["type"]] if isinstance(rest["type"], str) else rest["type"]
    used = [name for name in types if any(has_type(value, name) for value in allowed)]
    return {"type": used[0] if len(used) == 1 else used, "enum": allowed}


def _finish_object(node: Node, path: str, narrow: bool) -> Node:
    members, required = dict(node.get("properties", {})), node.get("required", [])
    others = node.get("additionalProperties", not narrow or (not members and not required))
    for name in required:
        members.setdefault(name, node.get("additionalProperties", {}))
        if members[name] is False:
            raise EmptyError(f"{path}.required", f"asks for {name!r}, which `properties` does not allow")
    if others is not False and False in members.values():
        raise SchemaError(f"{path}.properties", "forbids a name among free ones, which cannot be held")
    properties = {
        name: _finish_member(member, f"{path}.properties.{name}", name in required, narrow)
        for name, member in members.items()
        if member is not False and (narrow or name in required)
    }
    free = others if isinstance(others, bool) else _finish_member(others, f"{path}.additionalProperties", False, narrow)
    done: Node = {"properties": properties, "required": [name for name in properties if name in required]}
    return {**done, "additionalProperties": True if free == {} else free, **_property_counts(node, done, free, path)}


def _finish_member(node: Node, path: str, required: bool, narrow: bool) -> Node:
    """What nothing satisfies empties the whole only where it must be given; where it may be absent it is a mistake."""
    done = attempt(finish, node, path, narrow)
    if not isinstance(done, EmptyError):
        return done
    if required:
        raise done
    raise SchemaError(done.path, done.reason)


def _property_counts(node: Node, done: Node, free: Any, path: str) -> Node:
    """minProperties and maxProperties go where they say nothing; else only a free-form object can hold them."""
    low, high = node.get("minProperties", 0), node.get("maxProperties")
    if high is not None and low > high:
        raise EmptyError(f"{path}.minProperties", f"{low} is above maxProperties {high}")
    counts = {}
    if low > len(done["required"]):
        counts["minProperties"] = low
    if high is not None and (free is not False or high < len(done["properties"])):
        counts["maxProperties"] = high
    if counts and done["properties"]:
        raise SchemaError(f"{path}.{next(iter(counts))}", "how many of these properties are given cannot be held")
    if counts.get("minProperties", 0) > 1:
        raise SchemaError(f"{path}.minProperties", f"is {low}; as a free name may repeat, only 1 can be held")
    if counts.get("minProperties") and free is False:
        raise EmptyError(f"{path}.minProperties", "asks for properties where none is allowed")
    return counts


def _finish_array(node: Node, path: str, narrow: bool) -> Node:
    low, prefix = node.get("minItems", 0), list(node.get("prefixItems", ()))
    items, high = node.get("items"), node.get("maxItems", inf)
    if items is False or (narrow and items is None and prefix and low <= len(prefix)):
        high = min(high, len(prefix))
    if False in prefix:
        high = min(high, prefix.index(False))
    if low > high:
        raise EmptyError(f"{path}.minItems", f"{low} is above the {high} items that are allowed")
    prefix = prefix[: int(min(high, len(prefix)))]
    done: Node = {}
    if prefix:
        done["prefixItems"] = [
            _finish_member(part, f"{path}.prefixItems[{i}]", i < low, narrow) for i, part in enumerate(prefix)
        ]
    if items not in (None, False) and (items or prefix) and high > len(prefix):
        done["items"] = _finish_member(items, f"{path}.items", low > len(prefix), narrow)
    done |= {"minItems": low} if low else {}
    return done | ({"maxItems": int(high)} if high < inf else {})


def _finish_string(node: Node, path: str) -> Node:
    done: Node = {key: node[key] for key in ("minLength", "maxLength", "format") if key in node}
    if done.get("minLength", 0) > done.get("maxLength", inf):
        raise EmptyError(f"{path}.minLength", f"{done['minLength']} is above maxLength {done['maxLength']}")
    found = list(node.get("patterns", ()))
    if node.get("format") in patterns.EXACT_FORMATS:
        found.append(patterns.EXACT_FORMATS[node["format"]])
    if found:
        done["pattern"] = found[0]
    if found[1:]:
        done["allOf"] = [{"pattern": pattern} for pattern in found[1:]]
    if "patterns" in node or ("format" in done and len(done) > 2):
        _prove({"type": "string", **done}, f"{path}.{'pattern' if 'patterns' in node else 'format'}")
    return done


def _finish_number(node: Node, whole: bool, path: str) -> Node:
    done: Node = {key: node[key] for key in _OF_TYPE["number"] if key in node}
    if whole:  # beyond these a JSON reader may round
        done |= {key: max(value, -MAX_SAFE) for key, value in done.items() if key in ("minimum", "exclusiveMinimum")}
        done |= {key: min(value, MAX_SAFE) for key, value in done.items() if key in ("maximum", "exclusiveMaximum")}
    if _is_empty_range(done, whole):
        raise EmptyError(f"{path}.{next(iter(done))}", "no value fits between the bounds")
    if "multipleOf" in done:
        _prove({"type": "integer" if whole else "number", **done}, f"{path}.multipleOf")
    return done


def _is_empty_range(bounds: Node, whole: bool) -> bool:
    low, above = bounds.get("minimum", -inf), bounds.get("exclusiveMinimum", -inf)
    high, below = bounds.get("maximum", inf), bounds.get("exclusiveMaximum", inf)
    if max(low, above) == -inf or min(high, below) == inf:
        return False
    if not whole:
        return bool(low > high or low >= below or above >= high or above >= below)
    first: int = max(ceil(bound) for bound in (low, floor(above) + 1 if above > -inf else low) if bound > -inf)
    last: int = min(floor(bound) for bound in (high, ceil(below) - 1 if below < inf else high) if bound < inf)
    return first > last


def _prove(schema: Node, path: str) -> None:
    """Have llguidance show that some string or number fits; about 0.1 ms."""
    reason = patterns.why_empty(schema)
    if reason is None:
        return
    if reason.startswith("Unsatisfiable"):
        raise EmptyError(path, f"no value fits: {reason}")
    raise SchemaError(path, f"cannot be held: {reason}")
