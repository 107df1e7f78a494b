"""Tiny checkpoints, lines and recipes that trainings in tests are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.checkpoints import FAMILIES, write_checkpoint
from tests.tiny import tiny_tokenizer_json

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADD = {
    "name": "add",
    "description": "Add.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
NUMBERS = {"steps": 6, "batch": 4, "micro_batch": 2, "learning_rate": 0.01, "log_every": 1, "save_every": 2}


def write_base(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """A checkpoint with random weights that speaks ChatML."""
    pre = "qwen2" if family.startswith("qwen") else "llama-bpe"
    tokenizer = tiny_tokenizer_json(440, CHATML, ("<tool_call>", "</tool_call>"), pre=pre)
    # Small contexts make small ONNX caches.
    settings = {**FAMILIES[family], "max_position_embeddings": 1024, **changes}
    return write_checkpoint(folder, tokenizer, **settings)


def line(content: str, *calls: dict[str, Any], says: str = "", tools: Any = (ADD,), **more: Any) -> str:
    """A training line; arguments as OpenAI writes them, a string of JSON."""
    answer: dict[str, Any] = {"role": "assistant", "content": says}
    if calls:
        answer["tool_calls"] = [
            {"type": "function", "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])}}
            for call in calls
        ]
    turns = [{"role": "user", "content": content}, answer]
    return json.dumps({"messages": turns, "tools": [{"type": "function", "function": tool} for tool in tools], **more})


def write_lines(file: Path, count: int = 24) -> Path:
    """`add N` calls add(a=N); every sixth line greets."""
    texts = [
        line("hello", says="Hello to you.") if i % 6 == 5 else line(f"add {i}", {"name": "add", "arguments": {"a": i}})
        for i in range(count)
    ]
    file.write_text("\n".join(texts) + "\n", "utf-8")
    return file


def write_recipe(file: Path, *, lora: bool = False, more: str = "", **numbers: Any) -> Path:
    """A recipe for `write_base`; `numbers` are those of [training]."""
    text = '[rendering]\nformat = "hermes"\nlength = 700\n[training]\nprecision = "float32"\n'
    text += "".join(f"{key} = {value}\n" for key, value in {**NUMBERS, **numbers}.items())
    file.write_text(text + ("[lora]\nrank = 4\nalpha = 8\n" if lora else "") + more, "utf-8")
    return file
