"""Our int4 graph beside onnxruntime-genai's, of the same random weights, with the same threads: decoding speed.

    python bench/genai.py WORK                     1 billion weights, one thread; 20 minutes, 5 GB in the folder WORK
    python bench/genai.py WORK --shape tiny        a try, in seconds

In an environment of its own, as onnxruntime-genai's builder needs another transformers than we do (0.18.0: version 5):

    pip install toolace-edge onnx onnxruntime-genai onnx-ir torch 'transformers>=5'

Both graphs are made once and kept in WORK: ours by `convert onnx --precision int4`, theirs by onnxruntime-genai's own
builder (int4 in blocks of 32, 8-bit inputs, as ours). Each run is a process with one model: it reads the prompt, then
decodes so many tokens greedily, each fed back, the search for the best included. The runs take turns, so that whatever
else the machine does slows both; the ratio is of the medians. That both compute the same is seen by the logits behind
the prompt, without which there is no figure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from random_checkpoint import SHAPES, write_random_checkpoint

LEAST_CORRELATION = 0.98  # the weights are the same without error; what is rounded otherwise are activations
OURS, THEIRS = "toolace-edge", "onnxruntime-genai"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the checkpoint and both models")
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="to decode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=(OURS, THEIRS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    models = {name: options.work / f"{options.shape}-{name}" for name in (OURS, THEIRS)}
    if options.child:
        run = {OURS: decode_ours, THEIRS: decode_theirs}[options.child]
        vocabulary = SHAPES[options.shape]["vocab_size"]
        prompt = np.random.default_rng(0).integers(16, min(272, vocabulary), options.prompt).tolist()
        print(json.dumps(run(models[options.child], prompt, options.tokens, options.threads)))
        return
    make(models, options.work / options.shape, options.shape)
    compare([sys.executable, __file__, *sys.argv[1:]], models, options.rounds)


def make(models: dict[str, Path], checkpoint: Path, shape: str) -> None:
    """Both models, as far as they are not there yet."""
    write_random_checkpoint(checkpoint, shape)
    tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    python = (sys.executable, "-m")
    if not models[OURS].exists():
        ours = ("toolace_edge", "convert", "onnx", str(checkpoint), str(models[OURS]))
        subprocess.run([*python, *ours, "--precision", "int4", "--no-verify"], check=True)
    if not (models[THEIRS] / "genai_config.json").is_file():
        theirs = ("onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(models[THEIRS]))
        how = ("-p", "int4", "-e", "cpu", "-c", str(checkpoint.parent / "cache"))
        extra = ("--extra_options", "accuracy_level=4", "block_size=32")
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}  # else it asks the hub for a model of that name
        subprocess.run([*python, *theirs, *how, *extra], check=True, env=offline)


def compare(command: Sequence[str], models: dict[str, Path], rounds: int) -> None:
    results: dict[str, list[dict[str, Any]]] = {OURS: [], THEIRS: []}
    for i in range(rounds):
        for name in (OURS, THEIRS) if i % 2 == 0 else (THEIRS, OURS):
            done = subprocess.run([*command, "--child", name], check=True, capture_output=True, text=True)
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    speeds = {name: [one["tokens_per_s"] for one in runs] for name, runs in results.items()}
    for name, values in speeds.items():
        size_bytes = sum(file.stat().st_size for file in models[name].iterdir() if "onnx" in file.name)
        each = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name:18} {statistics.median(values):7.2f} tokens/s decoded ({each}), {size_bytes / 1e6:.0f} MB")
    ours, theirs = (np.asarray(results[name][0]["logits"]) for name in (OURS, THEIRS))
    correlation = np.corrcoef(ours, theirs)[0, 1]
    print(f"{'':18} the logits behind the prompt correlate by {correlation:.3f}")
    if correlation < LEAST_CORRELATION:
        raise SystemExit("These are not two graphs of one model: there is nothing to compare.")
    print(f"ratio {statistics.median(speeds[OURS]) / statistics.median(speeds[THEIRS]):.3f}")


def decode_ours(model: Path, prompt: list[int], count: int, threads: int) -> dict[str, Any]:
    from toolace_edge.engines.onnx import OnnxEngine

    with OnnxEngine(model, threads=threads, n_ctx=len(prompt) + count + 8) as engine:
        logits = engine.forward(prompt)[-1]
        first = logits.copy()
        start = time.perf_counter()
        for _ in range(count):
            logits = engine.forward([int(logits.argmax())])[-1]
        return _result(first, count, time.perf_counter() - start)


def decode_theirs(model: Path, prompt: list[int], count: int, threads: int) -> dict[str, Any]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reports as it loads, unless told not to
    try:
        import onnxruntime_genai
    except ImportError as error:
        raise SystemExit("Needs onnxruntime-genai: pip install onnxruntime-genai onnx-ir") from error
    config = onnxruntime_genai.Config(str(model))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    parameters = onnxruntime_genai.GeneratorParams(opened := onnxruntime_genai.Model(config))
    length = len(prompt) + count + 1
    parameters.set_search_options(do_sample=False, min_length=length, max_length=length)  # no end before that
    generator = onnxruntime_genai.Generator(opened, parameters)
    generator.append_tokens(np.asarray([prompt], np.int32))
    first = np.array(generator.get_logits(), np.float32)[0, -1]  # a copy: the next step writes over it
    generator.generate_next_token()
    start = time.perf_counter()
    for _ in range(count):
        generator.generate_next_token()
    return _result(first, count, time.perf_counter() - start)


def _result(logits: np.ndarray, count: int, seconds: float) -> dict[str, Any]:
    """`logits`: float32 [vocab], behind the prompt."""
    return {"tokens_per_s": count / seconds, "logits": logits.tolist()}


if __name__ == "__main__":
    main()
