"""Random values of a schema, written byte by byte under llguidance's mask: what a model of pure noise would answer."""

from __future__ import annotations

import json
import random
from typing import Any

from llguidance import LLMatcher

from toolace_edge.patterns import byte_tokenizer

COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


def sample(schema: dict[str, Any], rng: random.Random) -> Any:
    """A value that fits, strings not longer than 40 unless they must be. Raises ValueError if llguidance refuses."""
    grammar = LLMatcher.grammar_from_json_schema(bounded(schema), overrides=COMPACT)
    while True:  # 1e999 is JSON, but no number of Python's
        value = json.loads(_write(LLMatcher(byte_tokenizer(), grammar), rng))
        if "Infinity" not in json.dumps(value):
            return value


def bounded(schema: Any) -> Any:
    if isinstance(schema, list):
        return [bounded(part) for part in schema]
    if schema == {}:
        return {"type": ["string", "integer", "boolean", "null"], "maxLength": 5}
    if not isinstance(schema, dict):
        return schema
    done = {key: bounded(schema[key]) for key in schema if key not in ("enum", "default", "properties")}
    done |= {key: schema[key] for key in ("enum", "default") if key in schema}
    if "properties" in schema:
        done["properties"] = {name: bounded(part) for name, part in schema["properties"].items()}
    if "string" in schema.get("type", ()):
        done.setdefault("maxLength", max(40, schema.get("minLength", 0)))
    return done


def _write(matcher: LLMatcher, rng: random.Random) -> str:
    if matcher.is_error():
        raise ValueError(matcher.get_error())
    written = bytearray()
    while not matcher.is_stopped() and len(written) < 4000:
        allowed = [i for i, bit in enumerate(_bits(matcher.compute_bitmask())) if bit and i < 256]
        long = len(written) > 60
        if matcher.is_accepting() and (not allowed or long):
            break
        closing = [i for i in allowed if i in b'"}]'] if long and rng.random() < 0.5 else []
        plain = [i for i in allowed if 32 <= i < 127 and i != 92] if rng.random() < 0.9 else []
        byte = rng.choice(closing or plain or allowed)
        assert matcher.consume_token(byte), matcher.get_error()
        written.append(byte)
    assert matcher.is_accepting(), written
    return written.decode()


def _bits(mask: bytes) -> list[int]:
    return [byte >> i & 1 for byte in mask for i in range(8)]
