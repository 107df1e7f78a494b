"""Trains a small tool-calling model on a CPU, from a base or from scratch: batches of batches.py, the model of
model.py, a log.

toolace-edge train model --data train.jsonl.gz --dev dev.jsonl.gz --base runs/base --out runs/nano --steps 2000
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from toolace_edge.errors import InputError

from .batches import PLANS, SHARES, Sources, batches, collate
from .examples import read_examples
from .memory import keep_freed_memory
from .model import Llama, ModelConfig, from_hugging_face, load_checkpoint, read_config, save_checkpoint, to_hugging_face
from .optim import Optimizer, warmup_stable_decay
from .optim import q4_0 as eager_q4_0
from .packs import Row, Tree, lay_out
from .rendering import Renderer
from .run_files import begin_run, check_same_run, digest, digests
from .smooth import channel_sizes, smooth
from .tokenizer import save_tokenizer, train_tokenizer

# Once a step and matrix: a fifth of the time where it is not compiled. Without the option the scales stay 32 bits wide.
q4_0 = torch.compile(eager_q4_0, dynamic=True, options={"emulate_precision_casts": True})
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
LEARNED_SHARE = 0.34  # of a batch's positions; the loss is computed on so many, always, to keep shapes fixed


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

    def __init__(
        self, out: Path, config: ModelConfig, steps: int, seed: int, base: Path | None, q4_from: float, bits: int = 8
    ) -> None:
        self.out, self.steps, self.seed, self.start, self.q4_from, self.bits = out, steps, seed, 0, q4_from, bits
        self.smoothed = False
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        checkpoint = out / "checkpoint.safetensors"
        tensors: dict[str, Tensor] = {}
        if checkpoint.exists():
            config, tensors, facts = load_checkpoint(checkpoint)
            self.start = int(facts["step"])  # type: ignore[call-overload]
            self.smoothed = bool(facts.get("smoothed"))
        self.model = Llama(config)
        if base is not None and not tensors:
            self.model.load_state_dict(from_hugging_face(base)[1])
        self.optimizer = Optimizer(self.model) if base is None else Optimizer(self.model, matrix_lr=0, other_lr=4e-4)
        self.model.bfloat16()
        if tensors:
            self.optimizer.grid = self._grid(self.start - 1)  # the weights in use are those of the last step
            self.optimizer.load(_unpacked(tensors, self.start))
        self.log_file = (out / "log.jsonl").open("a", encoding="utf-8")

    def _grid(self, step: int) -> Callable[[Tensor], Tensor] | None:
        return q4_0 if step >= self.q4_from * self.steps else None

    def log(self, **facts: object) -> None:
        line = json.dumps(facts)
        self.log_file.write(line + "\n")
        self.log_file.flush()
        click.echo(line, err=True)

    def save(self, step: int) -> None:
        state = self.optimizer.state()
        tensors = {f"{group}/{k}": v for group in ("masters", "first", "second") for k, v in state[group].items()}
        facts: dict[str, object] = {"step": step, "seed": self.seed, "smoothed": self.smoothed}
        save_checkpoint(self.out / "checkpoint.safetensors", self.model.c, tensors, facts)
        deployed = {name: self.optimizer.deployed(name) for name in self.optimizer.masters}
        to_hugging_face(deployed, self.model.c, self.out / "hf")

    def enter_grid(self, data: Mapping[str, Tensor]) -> None:
        """Once, before the first step whose weights are rounded: outliers of the activations go into the weights."""
        mask = look_mask(data["tree"], data["branch"])
        sizes = channel_sizes(self.model, lambda: self.model.hidden(data["ids"], data["positions"], mask))
        state = self.optimizer.state()
        smooth(((state["masters"], 1), (state["first"], -1), (state["second"], -2)), sizes)
        self.optimizer.load(state)
        self.smoothed = True

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
            self.optimizer.grid = self._grid(step)
            if self.optimizer.grid is not None and not self.smoothed:
                self.enter_grid(data)
            self.model.bits = 0 if self.optimizer.grid is None else self.bits
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


def _begin(out: Path, sources: Sources, base: Path | None, numbers: Mapping[str, Any]) -> None:
    """Writes down what the run in `out` is. InputError where another was begun there, and has learned something."""
    for name in ("config.json", "model.safetensors", *_TOKENIZER_FILES):
        if base is not None and not (base / name).is_file():
            raise InputError(f"{base} has no {name}.", hint="--base is a folder that `train base` or `unpack` wrote.")
    files = {name: getattr(sources, name) for name in ("data", "dev", "drafts", "apis", "only")}
    facts: dict[str, Any] = {name: None if file is None else digest(file) for name, file in files.items()}
    facts = {**facts, "base": None if base is None else digests(base), **numbers}
    if (out / "checkpoint.safetensors").exists():
        check_same_run(out, facts)
    begin_run(out, facts)


def _put_tokenizer(folder: Path, base: Path | None, data: Path, vocab_size: int) -> None:
    """The base's, or one that the data's texts teach."""
    if base is None:
        save_tokenizer(train_tokenizer(tokenizer_texts(data), vocab_size), folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        shutil.copy(base / name, folder)


def train_model(
    *,
    data: Path,
    dev: Path | None,
    out: Path,
    steps: int,
    drafts: Path | None,
    apis: Path | None,
    only: Path | None,
    layers: int,
    width: int,
    seed: int,
    threads: int,
    eval_every: int,
    base: Path | None,
    q4_from: float,
    activation_bits: int = 8,
) -> None:
    """Train in the folder `out`, or resume there. Heads are 64 wide and two share their keys: `width` in 128s.

    InputError where another run was begun in `out`, or the base is none of ours.
    """
    sources = Sources(data, drafts, apis, dev, only)
    shape = {"layers": layers, "width": width} if base is None else {}
    shape |= {} if activation_bits == 8 else {"activation_bits": activation_bits}  # runs from before there was a choice
    _begin(out, sources, base, {"steps": steps, "seed": seed, "q4_from": q4_from, **shape})
    keep_freed_memory()
    torch.set_num_threads(threads)
    heads = width // 64
    config = ModelConfig(width=width, n_layers=layers, n_heads=heads, n_kv_heads=heads // 2, head_dim=64, ffn=3 * width)
    config = config if base is None else read_config(base)
    tokenizer_file = out / "hf" / "tokenizer.json"
    if not (out / "checkpoint.safetensors").exists():
        _put_tokenizer(tokenizer_file.parent, base, data, config.vocab_size)
    run = Run(out, config, steps, seed, base, q4_from, activation_bits)
    with run.log_file:
        if run.start >= steps:  # killed between the checkpoint and what is made of it
            run.save(run.start)
            return
        plan = PLANS["scratch" if base is None else "base"]
        size = sum(p.numel() for p in run.model.parameters())
        curriculum = [[until, [asdict(mix) for mix in mixes]] for until, mixes in plan.curriculum]
        run.log(config=asdict(run.model.c), parameters=size, steps=steps, seed=seed, start=run.start, threads=threads,
                curriculum=curriculum, shares=SHARES)  # fmt: skip
        renderer = Renderer(Tokenizer.from_file(str(tokenizer_file)))
        rows = dev_rows(dev, renderer, per_source=16, length=512) if dev else []
        stream = batches(sources, tokenizer_file, seed, range(run.start, steps), steps, plan)
        run.train(stream, rows, every=eval_every, minutes_a_save=5)
