"""An OpenAPI 3.0 or 3.1 document as plain JSON: read strictly from JSON or YAML, its local references followed.

YAML is read as YAML 1.2 does (`on` and `no` are words, a date is text), without tags, merges of other types than
mappings, or repeated names; what aliases blow up beyond MAX_VALUES is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from toolace_edge.errors import MissingDependency, SchemaError, ToolError
from toolace_edge.json_file import BadJson, parse_json, read_text, without_repeats

MAX_FILE_BYTES = 64 * 2**20
MAX_VALUES = 3_000_000
MAX_LEVELS = 200
MAX_REFERENCES = 32  # one leading to the next

_WHAT = "an OpenAPI 3.0 or 3.1 document"


@dataclass(frozen=True, slots=True)
class Document:
    """`root` is plain JSON with text as every name; `version` is "3.0" or "3.1"."""

    name: str
    root: Mapping[str, Any]
    version: str

    def follow(self, node: Any, path: str) -> Any:
        """The node, or what its `$ref` leads to in the end. Raises SchemaError where that is nothing here."""
        for _ in range(MAX_REFERENCES):
            if not isinstance(node, Mapping) or "$ref" not in node:
                return node
            node = self.at(node["$ref"], path)
        raise SchemaError(f"{path}.$ref", "leads from reference to reference without an end")

    def at(self, reference: Any, path: str) -> Any:
        """What a reference names. Raises SchemaError where that is nothing here."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise SchemaError(f"{path}.$ref", f"{reference!r:.200} lies outside this document, which is not fetched")
        target: Any = self.root
        for key in reference[2:].split("/"):
            key = unquote(key).replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping) and key in target:
                target = target[key]
            elif isinstance(target, list) and key.isascii() and key.isdigit() and int(key) < len(target):
                target = target[int(key)]
            else:
                raise SchemaError(f"{path}.$ref", f"{reference!r:.200} is not in this document")
        return target


def read_document(path: Path) -> Document:
    """The document in a file. Raises ToolError where it is not one."""
    text = read_text(path, MAX_FILE_BYTES, _WHAT)
    is_json = path.suffix.lower() == ".json" or text.lstrip()[:1] == "{"
    root = parse_json(text, path) if is_json else _parse_yaml(text, path)
    if not isinstance(root, Mapping):
        raise ToolError(f"{path} is {type(root).__name__}, not an object.", hint=f"Give {_WHAT}.")
    if "swagger" in root:
        raise ToolError(f"{path} is Swagger {root['swagger']!s:.20}.", hint="Convert it to OpenAPI 3 first.")
    found = re.match(r"3\.[01](?=\.|$)", str(root.get("openapi", "")))
    if found is None:
        given = f"`openapi: {root['openapi']!s:.20}`" if "openapi" in root else "no `openapi`"
        raise ToolError(f"{path} says {given}.", hint=f"Give {_WHAT}.")
    return Document(path.name, root, found[0])


def _parse_yaml(text: str, path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingDependency("PyYAML", "openapi") from None
    try:
        return _Plain().copy(yaml.load(text, Loader=_loader()))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ToolError(f"{path} is not YAML: {error.problem}{place}.", hint="Correct the file there.") from None
    except yaml.YAMLError as error:
        raise ToolError(f"{path} is not YAML: {' '.join(str(error).split())}.", hint="Correct the file.") from None
    except (BadJson, ValueError) as error:
        raise ToolError(f"{path} {error}.", hint="Correct the file there.") from None
    except RecursionError:
        raise ToolError(f"{path} is nested too deeply.", hint="Flatten it.") from None


class _Plain:
    """Copies what YAML gave, so that an alias is a value of its own; that bounds what aliases can blow up."""

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def copy(self, value: Any, levels: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or levels > MAX_LEVELS:
            raise BadJson(f"holds more than {MAX_VALUES:,} values or {MAX_LEVELS} levels, its aliases written out")
        if isinstance(value, dict):
            names = [str(name).lower() if isinstance(name, bool) else str(name) for name in value]
            return without_repeats(
                [(name, self.copy(one, levels + 1)) for name, one in zip(names, value.values(), strict=True)]
            )
        return [self.copy(one, levels + 1) for one in value] if isinstance(value, list) else value


def _loader() -> Any:
    """PyYAML's safe loader with YAML 1.2's core scalars and no repeated names."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own way; filled below

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            for name in names if len(set(map(str, names))) < len(names) else ():
                if names.count(name) > 1:
                    raise BadJson(f"gives {name!r:.80} twice in one mapping, line {node.start_mark.line + 1}")
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            return found

    def integer(loader: Any, node: Any) -> int:
        digits = loader.construct_scalar(node)
        if len(digits) > 400:
            raise BadJson(f"holds an integer of {len(digits)} digits, {digits[:20]}...")
        return int(digits, 0) if digits[:2] in ("0x", "0o") else int(digits)

    core = {
        "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
        "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
        "merge": (r"<<", ["<"]),
    }
    for name, (pattern, first) in core.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$"), first)
    Loader.add_constructor("tag:yaml.org,2002:int", integer)
    return Loader
