"""Is the right tool among the k that retrieval offers? Catalogues of strangers' tools are made around known requests.

    python bench/retrieval.py --data dev.jsonl.gz --pool train.jsonl.gz --sizes 100 1000 --lines 600
    python bench/retrieval.py --data dev.jsonl.gz --pool train.jsonl.gz --sizes 100 --lines 600 --write dev100.jsonl

Each line of the data keeps its own tools and gets others of the pool, drawn with a seed, until there are as many as
asked for; none of these has the name or the description of one of the line's own. Lines without a right call are left
out. A line counts at k when every tool of its right calls is among the first k. `--write` writes the lines with the
tools they were given, in an order drawn with the seed, for `toolace-edge eval --data FILE --top-k 8`. With `--embed
MODEL.gguf` that model's own embeddings are measured too, alone and with the words (embeddings.py; needs gguf).
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import embeddings
import numpy as np

from toolace_edge.errors import SchemaError
from toolace_edge.evaluate import wilson
from toolace_edge.examples import Example, read_examples
from toolace_edge.messages import Tool
from toolace_edge.retrieval import Terms, ToolIndex, Weights, ranking, terms_of
from toolace_edge.tools import load_tools
from toolace_edge.train.examples import as_openai

KS = (1, 4, 8)
METHODS = {
    "words": Weights(spellings=0, meanings=0),
    "words, spellings": Weights(meanings=0),
    "meanings": Weights(words=0, spellings=0),
    "words, meanings": Weights(spellings=0),
    "all three (what ships)": Weights(),
}
EMBEDDED = {"token embeddings": embeddings.by_tokens, "hidden states": embeddings.by_states}
PARTS = (0.25, 0.5)  # of a mix of standardized scores, what the embeddings count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="lines whose right calls are known")
    parser.add_argument("--pool", type=Path, required=True, help="lines whose tools are the strangers")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="tools in a catalogue")
    parser.add_argument("--lines", type=int, default=600, help="how many lines, drawn with the seed")
    parser.add_argument("--every", type=int, default=5, help="one in so many lines of the pool is read")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embed", type=Path, help="a GGUF model whose embeddings are measured too")
    parser.add_argument("--write", type=Path, help="write the lines with the tools of the first size, and stop")
    options = parser.parse_args()
    examples = [one for one in read_examples(options.data) if one.gold and not one.refused]
    examples = random.Random(options.seed).sample(examples, min(options.lines, len(examples)))
    pool = read_pool(options.pool, options.every)
    print(f"{len(examples)} lines, a pool of {len(pool)} tools, seed {options.seed}", file=sys.stderr)
    if options.write:
        write(options.write, options.data, examples, pool, options.sizes[0], options.seed)
        return
    embedders = {name: make(options.embed, pool) for name, make in EMBEDDED.items()} if options.embed else {}
    for size in options.sizes:
        measure(examples, pool, size, options.seed, embedders)


def read_pool(path: Path, every: int) -> list[Tool]:
    """The tools of one line in `every`; of those with the same name or the same description only the first."""
    found: dict[str, Tool] = {}
    descriptions: set[str] = set()
    with opened(path) as lines:
        for line in islice(lines, 0, None, every):
            for entry in json.loads(line)["tools"]:
                described = entry.get("function", entry)
                name, description = bare(described["name"]), bare(described.get("description") or "")
                if name in found or description in descriptions:
                    continue
                try:
                    found[name] = load_tools([entry])[0]
                    descriptions.add(description)
                except SchemaError:
                    continue
    return list(found.values())


def opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def bare(text: str) -> str:
    """Letters and digits in lower case: spellings of one name are one."""
    return "".join(filter(str.isalnum, text.lower()))


def catalogue(example: Example, pool: Sequence[Tool], size: int, rng: random.Random) -> list[Tool]:
    """The example's tools among strangers, `size` in all, in any order."""
    taken = {bare(text) for tool in example.tools for text in (tool.name, tool.description)}
    strangers = (tool for tool in shuffled(pool, rng) if not {bare(tool.name), bare(tool.description)} & taken)
    tools = [*example.tools, *islice(strangers, max(0, size - len(example.tools)))]
    if len(tools) < size:
        sys.exit(f"The pool has too few tools for a catalogue of {size}: read more of it (--every 1).")
    rng.shuffle(tools)
    return tools


def shuffled(pool: Sequence[Tool], rng: random.Random) -> Iterator[Tool]:
    """The pool in an order of its own, drawn as far as it is asked for."""
    order = list(range(len(pool)))
    for i in range(len(order)):
        j = rng.randrange(i, len(order))
        order[i], order[j] = order[j], order[i]
        yield pool[order[i]]


def measure(
    examples: Sequence[Example],
    pool: Sequence[Tool],
    size: int,
    seed: int,
    embedders: Mapping[str, embeddings.Embedder],
) -> None:
    """Print recall for each method, and for the shipped one by source."""
    rng = random.Random(f"{seed} {size}")
    shipped = list(METHODS)[-1]
    known: dict[int, Terms] = {}

    def terms(tool: Tool) -> Terms:  # the pool's tools come again in every catalogue
        if id(tool) not in known:
            known[id(tool)] = terms_of(tool)
        return known[id(tool)]

    needed: dict[tuple[str, str], list[int]] = defaultdict(list)  # the k that a line would have needed
    building_s = asking_s = 0.0
    for example in examples:
        tools = catalogue(example, pool, size, rng)
        start = time.perf_counter()
        index = ToolIndex(tools, terms)
        middle = time.perf_counter()
        gold = {call.name for call in example.gold}
        wanted = [i for i, tool in enumerate(tools) if tool.name in gold]
        orders = {name: ranking(index.scores(example.messages, weights)) for name, weights in METHODS.items()}
        asking_s += (time.perf_counter() - middle) / len(METHODS)
        others = mixed(index.scores(example.messages), example, tools, embedders)
        orders.update((name, ranking(scores)) for name, scores in others)
        for method, order in orders.items():
            k = max(order.index(i) for i in wanted) + 1
            needed[method, "all"].append(k)
            needed[method, example.group].append(k)
        building_s += middle - start
    print(f"\n{size} tools ({building_s / len(examples):.3f} s an index, {asking_s / len(examples):.4f} s a request)\n")
    print("| | lines | " + " | ".join(f"recall@{k}" for k in KS) + " |\n|---|---|" + "---|" * len(KS))
    rows = [(method, (method, "all")) for method, group in needed if group == "all"]
    rows += [(group, (shipped, group)) for _, group in sorted(needed) if _ == shipped and group != "all"]
    for name, key in rows:
        print(f"| {name} | {len(needed[key])} | " + " | ".join(share(needed[key], k) for k in KS) + " |")


def mixed(
    words: Sequence[float], example: Example, tools: Sequence[Tool], embedders: Mapping[str, embeddings.Embedder]
) -> Iterator[tuple[str, list[float]]]:
    """Scores by each embedder alone, and with the words'."""
    for name, embedder in embedders.items():
        alone = embedder.scores(example.messages, tools)
        yield name, alone
        for part in PARTS:
            yield f"what ships + {part} {name}", list((1 - part) * standard(words) + part * standard(alone))


def standard(scores: Sequence[float]) -> np.ndarray:
    """The scores with mean 0 and deviation 1."""
    values = np.asarray(scores)
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def share(needed: Sequence[int], k: int) -> str:
    """`81.3 % (77.9 .. 84.2)`: with the 95 % interval."""
    part = sum(one <= k for one in needed) / len(needed)
    low, high = wilson(part, len(needed))
    return f"{part:.1%} ({low:.1%} .. {high:.1%})"


def write(path: Path, data: Path, examples: Sequence[Example], pool: Sequence[Tool], size: int, seed: int) -> None:
    """The lines of `data` that `examples` are, each with a catalogue in the place of its tools."""
    rng = random.Random(f"{seed} {size}")
    given = {one.id: catalogue(one, pool, size, rng) for one in examples}
    with opened(data) as lines, path.open("w", encoding="utf-8") as out:
        for number, text in enumerate(lines, start=1):
            line: dict[str, Any] = json.loads(text)
            if (tools := given.get(str(line.get("id", number)))) is not None:
                line["tools"] = [as_openai(tool) for tool in tools]
                out.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
