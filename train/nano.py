"""Trains a small tool-calling model from scratch on a CPU: rows of packs.py, the model of model.py, a schedule, a log.

    toolace-edge train --data train.jsonl.gz --dev dev.jsonl.gz --out runs/nano --steps 6000

Rows are drawn in a child process, seeded by step: a run resumed from its checkpoint sees what it would have seen.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from toolace_edge.messages import ToolCall

from .examples import Example, read_examples
from .grounding import is_grounded
from .model import Llama, ModelConfig, load_checkpoint, save_checkpoint, to_hugging_face
from .optim import Optimizer, warmup_stable_decay
from .packs import Mix, Packer, Row, Tree, lay_out
from .rendering import Renderer
from .synth import Synthesizer
from .tokenizer import save_tokenizer, train_tokenizer

# How often a source is the anchor of a row. Found function calling counts far above its size; long dialogues below.
SHARES = {
    "seal_tools": 9, "glaive": 7, "toolrl_rlla": 4, "ste_toolbench": 4, "synth_rapidapi": 9, "ha_intents": 4,
    "thingpedia": 9, "snips": 6, "hwu64": 5, "fb_multilingual_tod": 4, "slurp": 3, "ms_bf_skills": 4, "home_llm": 3,
    "star": 2, "tm4": 2, "sgd": 6, "metatool": 4, "clinc_oos": 3, "banking77": 1, "composed": 7, "composed_same": 5,
}  # fmt: skip
# Short rows first, few tools, names more than descriptions: copying is learned there. (until, mix)
CURRICULUM = (
    (0.30, Mix(length=256, synth=0.55, lone_tool=0.6, distractors=1, keep_descriptions=0.4, read=0.2)),
    (0.58, Mix(length=384, synth=0.55, lone_tool=0.3, distractors=3, keep_descriptions=0.7, no_call=0.5, read=0.1)),
    (1.01, Mix(length=640, synth=0.45, lone_tool=0.2, distractors=6, keep_descriptions=0.9, no_call=0.5, refine=0.15)),
)
TOKENS_A_STEP = 6144
LEARNED_SHARE = 0.34  # of a batch's positions; the loss is computed on so many, always, to keep shapes fixed


def mix_at(progress: float) -> Mix:
    return next(mix for until, mix in CURRICULUM if progress < until)


def make_packer(data: Path, tokenizer: Tokenizer, drafts: Path | None) -> Packer:
    pools: dict[str, list[Example]] = defaultdict(list)
    for example in read_examples(data):
        if len(example.request) < 1200 and len(example.messages) < 10 and is_grounded(example):
            pools[example.source].append(example)
    synth = Synthesizer(random.Random(0), *_free_text(pools))
    return Packer(Renderer(tokenizer), pools, SHARES, synth, synth.rng, _read_drafts(drafts))


def _free_text(pools: Mapping[str, Sequence[Example]]) -> tuple[list[str], list[str], list[str]]:
    """For made tools: nouns out of parameter names, phrases out of argument values, and every word of the requests."""
    words: set[str] = set()
    phrases: set[str] = set()
    lexicon: set[str] = set()
    for pool in pools.values():
        for example in pool:
            lexicon.update(re.findall(r"[^\W\d_]{2,16}", example.request))
            for tool in example.tools:
                for name in tool.parameters.get("properties", {}):
                    words.update(w.lower() for w in re.findall(r"[A-Za-z][a-z]{2,}", name))
            for call in example.calls:
                phrases.update(v for v in call.arguments.values() if isinstance(v, str) and 0 < len(v) < 40)
    return sorted(words), sorted(p for p in phrases if p.strip() == p and "\n" not in p), sorted(lexicon)


def _read_drafts(path: Path | None) -> dict[str, list[tuple[ToolCall, ...]]]:
    drafts: dict[str, list[tuple[ToolCall, ...]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path else ():
        record = json.loads(line)
        calls = tuple(ToolCall(call["name"], call["arguments"]) for call in record["calls"])
        drafts.setdefault(record["request"], []).append(calls)
    return drafts


def _produce(queue: Any, data: Path, tokenizer: Path, drafts: Path | None, seed: int, steps: range, total: int) -> None:
    packer = make_packer(data, Tokenizer.from_file(str(tokenizer)), drafts)
    for step in steps:
        packer.rng.seed(f"{seed}/{step}")
        mix = mix_at(step / total)
        queue.put(collate([packer.row(mix) for _ in range(round(TOKENS_A_STEP / mix.length))]))


def collate(rows: Sequence[Row]) -> dict[str, np.ndarray[Any, Any]]:
    fields = ("ids", "positions", "tree", "branch", "targets", "weights")
    batch = {name: np.stack([getattr(row, name) for row in rows]) for name in fields}
    batch["answers"] = np.array(sum(row.answers for row in rows))
    return batch


def batches(data: Path, tokenizer: Path, drafts: Path | None, seed: int, steps: range, total: int) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=16)
    arguments = (queue, data, tokenizer, drafts, seed, steps, total)
    process = context.Process(target=_produce, args=arguments, daemon=True)
    process.start()
    for _ in steps:
        yield queue.get(timeout=600)
    process.join(timeout=10)


def look_mask(tree: Tensor, branch: Tensor) -> Tensor:
    """bool [b, 1, n, n]: a token sees its tree's tools and its own branch up to itself; padding sees padding only."""
    n = branch.shape[1]
    same_tree = tree[:, None, :] == tree[:, :, None]
    open_to = (branch[:, None, :] == branch[:, :, None]) | (branch[:, None, :] == 0)
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    return (same_tree & open_to & causal)[:, None]


def weighted_loss(
    model: Llama, ids: Tensor, positions: Tensor, mask: Tensor, at: Tensor, targets: Tensor, weights: Tensor
) -> Tensor:
    """Weighted mean cross-entropy at the flat positions `at`; the divisor is at least 1 (a batch may be empty)."""
    hidden = model.hidden(ids, positions, mask).reshape(-1, model.c.width)[at]
    losses = F.cross_entropy(F.linear(hidden, model.embed.weight).float(), targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def chosen_positions(weights: Tensor, generator: torch.Generator) -> Tensor:
    """As many flat positions as the loss has room for: learned ones first, context to fill up."""
    flat = weights.reshape(-1)
    count = int(flat.numel() * LEARNED_SHARE)
    noise = torch.rand(flat.shape, generator=generator)
    return torch.topk(flat + noise * 0.05 + (flat > 0), count).indices


@torch.no_grad()
def exact_share(model: Llama, rows: Sequence[tuple[str, Row]]) -> dict[str, tuple[int, int]]:
    """Per source: answers whose every real choice is the model's first, given the right ones before; and how many."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for start in range(0, len(rows), 8):
        part = rows[start : start + 8]
        batch = {k: torch.from_numpy(v) for k, v in collate([row for _, row in part]).items()}
        hidden = model.hidden(batch["ids"], batch["positions"], look_mask(batch["tree"], batch["branch"]))
        for i, (source, _) in enumerate(part):
            at = batch["weights"][i] >= 1
            guess = F.linear(hidden[i][at], model.embed.weight).argmax(-1)
            counts[source][0] += int((guess == batch["targets"][i][at]).all())
            counts[source][1] += 1
    return {source: (right, n) for source, (right, n) in counts.items()}


def dev_rows(path: Path, renderer: Renderer, per_source: int, length: int = 640) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    seen: dict[str, int] = defaultdict(int)
    for example in read_examples(path):
        if seen[example.source] >= per_source:
            continue
        head = renderer.tools(example.tools)
        branch = renderer.messages(example.messages, example.tools) + renderer.answer(example.calls, example.tools)
        if len(head.ids) + len(branch.ids) <= length:
            seen[example.source] += 1
            rows.append((example.source, lay_out([Tree(head, [branch])], length)))
    return rows


class Run:
    """A training run in a folder: log.jsonl, checkpoint.safetensors, and the Hugging Face export."""

    def __init__(self, out: Path, config: ModelConfig, steps: int, seed: int) -> None:
        self.out, self.steps, self.seed, self.start = out, steps, seed, 0
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        checkpoint = out / "checkpoint.safetensors"
        tensors: dict[str, Tensor] = {}
        if checkpoint.exists():
            config, tensors, facts = load_checkpoint(checkpoint)
            self.start = int(facts["step"])  # type: ignore[call-overload]
        self.model = Llama(config).bfloat16()
        self.optimizer = Optimizer(self.model)
        if tensors:
            self.optimizer.load(_unpacked(tensors, self.start))
        self.log_file = (out / "log.jsonl").open("a", encoding="utf-8")

    def log(self, **facts: object) -> None:
        line = json.dumps(facts)
        self.log_file.write(line + "\n")
        self.log_file.flush()
        click.echo(line, err=True)

    def save(self, step: int) -> None:
        state = self.optimizer.state()
        tensors = {f"{group}/{k}": v for group in ("masters", "first", "second") for k, v in state[group].items()}
        save_checkpoint(self.out / "checkpoint.safetensors", self.model.c, tensors, {"step": step, "seed": self.seed})
        to_hugging_face(self.optimizer.masters, self.model.c, self.out / "hf")

    def train(
        self, stream: Iterator[Any], dev: Sequence[tuple[str, Row]], *, every: int, minutes_a_save: float
    ) -> None:
        loss_fn = torch.compile(weighted_loss, dynamic=False)
        generator = torch.Generator()
        began = saved = time.monotonic()
        tokens = answers = 0
        recent: list[float] = []
        for step, batch in enumerate(stream, self.start):
            generator.manual_seed(step)
            answers += int(batch.pop("answers"))
            data = {name: torch.from_numpy(array) for name, array in batch.items()}
            at = chosen_positions(data["weights"], generator)
            loss = loss_fn(
                self.model, data["ids"], data["positions"], look_mask(data["tree"], data["branch"]), at,
                data["targets"].reshape(-1)[at], data["weights"].reshape(-1)[at],
            )  # fmt: skip
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step(warmup_stable_decay(step / self.steps))
            recent.append(float(loss.detach()))
            tokens += data["ids"].numel()
            if (step + 1) % 50 == 0:
                rate = tokens / (time.monotonic() - began)
                self.log(step=step + 1, loss=round(float(np.mean(recent)), 4), tokens_s=round(rate), answers=answers)
                recent.clear()
            if (step + 1) % every == 0 and dev:
                shares = exact_share(self.model, dev)
                self.log(step=step + 1, dev={k: f"{r}/{n}" for k, (r, n) in sorted(shares.items())},
                         right=sum(r for r, _ in shares.values()), n=len(dev))  # fmt: skip
            if time.monotonic() - saved > minutes_a_save * 60 or step + 1 == self.steps:
                self.save(step + 1)
                saved = time.monotonic()


def _unpacked(tensors: Mapping[str, Tensor], step: int) -> dict[str, Any]:
    groups: dict[str, Any] = {"masters": {}, "first": {}, "second": {}, "steps": step}
    for key, value in tensors.items():
        group, name = key.split("/", 1)
        groups[group][name] = value
    return groups


def tokenizer_texts(data: Path) -> Iterator[str]:
    """Requests, calls, and each tool's words once."""
    seen: set[str] = set()
    for number, example in enumerate(read_examples(data)):
        if example.source == "sgd" and number % 4:
            continue
        for message in example.messages:
            yield message.content
        for call in example.calls:
            yield json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
        for tool in example.tools:
            if tool.name + tool.description not in seen:
                seen.add(tool.name + tool.description)
                yield f"{tool.name} {tool.description[:300]}"
                for name, schema in tool.parameters.get("properties", {}).items():
                    yield f"{name} {schema.get('description', '')[:200]}"


def train_model(
    *,
    data: Path,
    dev: Path | None,
    out: Path,
    steps: int,
    drafts: Path | None,
    layers: int,
    width: int,
    seed: int,
    threads: int,
    eval_every: int,
) -> None:
    """Train in the folder `out`, or resume there. Heads are 64 wide and two share their keys: `width` in 128s."""
    torch.set_num_threads(threads)
    heads = width // 64
    config = ModelConfig(width=width, n_layers=layers, n_heads=heads, n_kv_heads=heads // 2, head_dim=64, ffn=3 * width)
    tokenizer_file = out / "hf" / "tokenizer.json"
    if not tokenizer_file.exists():
        save_tokenizer(train_tokenizer(tokenizer_texts(data), config.vocab_size), tokenizer_file.parent)
    run = Run(out, config, steps, seed)
    size = sum(p.numel() for p in run.model.parameters())
    run.log(config=asdict(run.model.c), parameters=size, steps=steps, seed=seed, start=run.start, threads=threads,
            curriculum=[[until, asdict(mix)] for until, mix in CURRICULUM], shares=SHARES)  # fmt: skip
    renderer = Renderer(Tokenizer.from_file(str(tokenizer_file)))
    rows = dev_rows(dev, renderer, per_source=40) if dev else []
    stream = batches(data, tokenizer_file, drafts, seed, range(run.start, steps), steps)
    run.train(stream, rows, every=eval_every, minutes_a_save=5)
