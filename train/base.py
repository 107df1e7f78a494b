"""From a published base to the folder that training starts from: fewer tokens, fewer layers, narrower feed-forwards.

    base.gguf --base_gguf--> weights --cut_vocabulary--> tokenizer --cut_layers--> FOLDER (a Hugging Face checkpoint)

What stays is measured on the training data, never on an evaluation's: tokens by how often its texts use them, layers
and channels by what the loss on its tool calls and dialogues says.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import torch
from tokenizers import Tokenizer
from torch import Tensor

from toolace_edge.errors import InputError

from .base_gguf import Base, read_base
from .cut_layers import Reader, cut, layers_to_keep
from .cut_vocabulary import cut_embedding, cut_vocabulary, kept_merges, smollm_tokenizer, usage
from .examples import Example, read_examples
from .model import Llama, to_hugging_face
from .nano import tokenizer_texts
from .run_files import whole_folder
from .tokenizer import save_tokenizer

N_CTX = 2048
MORE_CHARACTERS = 20_000_000  # of other texts; enough to rank tokens


def make_base(
    gguf: Path, data: Path, more: Sequence[Path], out: Path, *, vocab_size: int, layers: int, ffn: int, seed: int = 1
) -> None:
    """Writes the folder `out`, all of it or nothing. `more` are other texts that tokens should serve (.gz, one a line),
    each as much as the rest. InputError where `out` is there already.
    """
    with whole_folder(out) as folder:
        base = read_base(gguf)
        _check_shape(base, gguf, layers, ffn)
        tokenizer, origin = _vocabulary(base, data, more, vocab_size)
        state = {**base.state, "embed.weight": cut_embedding(base.state["embed.weight"], base.tokens, origin)}
        config = replace(base.config, vocab_size=tokenizer.get_vocab_size(), n_ctx=N_CTX)
        model = Llama(config)
        model.load_state_dict(state)
        reader = Reader(model.bfloat16(), _calibration(data, tokenizer, random.Random(seed)))
        click.echo(f"{config.n_layers} layers, loss {reader.loss(range(config.n_layers)):.3f}", err=True)
        kept = layers_to_keep(reader, layers, lambda text: click.echo(text, err=True))
        config, state = cut(config, state, kept, reader.channels(kept), ffn)
        to_hugging_face(state, config, folder)
        save_tokenizer(tokenizer, folder)
    size = sum(tensor.numel() for tensor in state.values())
    click.echo(f"{out}: {size / 1e6:.1f} M parameters, layers {kept}", err=True)


def _check_shape(base: Base, gguf: Path, layers: int, ffn: int) -> None:
    """The first and the last layer stay, and nothing can be added."""
    for flag, value, least, most in (("--layers", layers, 2, base.config.n_layers), ("--ffn", ffn, 1, base.config.ffn)):
        if not least <= value <= most:
            raise InputError(f"{flag} is {value}; {gguf} can be cut to {least} .. {most}.")


def _vocabulary(base: Base, data: Path, more: Sequence[Path], size: int) -> tuple[Tokenizer, list[str | None]]:
    merges = kept_merges(base.merges)
    whole = smollm_tokenizer({token: i for i, token in enumerate(base.tokens)}, merges)
    corpora = [usage(whole, tokenizer_texts(data)), *(usage(whole, _lines(path)) for path in more)]
    worth: Counter[str] = Counter()
    for counts in corpora:
        total = sum(counts.values())
        worth.update({token: count / total for token, count in counts.items()})
    return cut_vocabulary(base.tokens, merges, worth, size)


def _lines(path: Path) -> Iterator[str]:
    room = MORE_CHARACTERS
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            room -= len(line)
            if room < 0:
                return
            yield line


def _calibration(data: Path, tokenizer: Tokenizer, rng: random.Random, rows: int = 7, length: int = 320) -> Tensor:
    """int64 [rows, length]: tools, requests and calls as plain text, and dialogues."""
    pools: dict[bool, list[Example]] = defaultdict(list)
    for example in read_examples(data):
        if example.calls:
            pools[len(example.messages) > 4].append(example)
    ids = []
    for row in range(rows):
        pool, text = pools[row % 3 == 2] or pools[False], ""
        encoded: list[int] = []
        while len(encoded) < length:
            text += _as_text(rng.choice(pool))
            encoded = tokenizer.encode(text, add_special_tokens=False).ids
        ids.append(encoded[:length])
    return torch.tensor(ids)


def _as_text(example: Example) -> str:
    tools = [f"- {tool.name}: {tool.description}\n" for tool in example.tools[:4]]
    said = [f"{message.role}: {message.content}\n" for message in example.messages if message.content]
    calls = [json.dumps({"name": call.name, "arguments": call.arguments}) for call in example.calls]
    return "".join(["You can use these functions:\n", *tools, "\n", *said, "call: ", "; ".join(calls), "\n\n"])
