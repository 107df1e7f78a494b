"""Does an 8B checkpoint convert within 6 GB of memory, and does a kill on the way leave nothing behind? On Linux.

    python bench/large.py WORK                                  as Llama-3.1-8B: 16 GB read, 40 GB of disk, an hour
    python bench/large.py WORK --shape 1b --limit-gb 3
    python bench/large.py WORK --shape 8b --layers 2            narrower in nothing but its depth

WORK gets a checkpoint of random weights (bfloat16, in shards; kept). Then `convert gguf --kind Q4_K_M --no-verify` runs
three times: it is killed while it converts (SIGKILL, half of the weights written), killed while it quantizes, and left
alone. After each kill there must be no file by the name of the model or beside it that is not hidden, and no process;
after the last run nothing but the model, whole by its header. The last run's memory is looked at twenty times a second:
resident pages of the process and its children together, and those of them that belong to no file (the rest is the
system's cache of a mapped file, which it takes back at will). Exit code 1 where something of this is not so.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from random_checkpoint import SHAPES, write_random_checkpoint

from toolace_edge.engines.gguf_header import read_header

LOOK_EVERY_S = 0.05
PATIENCE_S = 30.0  # for a child to notice that its parent is gone


@dataclass
class Peak:
    """Of a process and its children together, in bytes; `anonymous` without pages of files."""

    resident: int = 0
    anonymous: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the checkpoint and the model")
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--layers", type=int, help="how many, if not as many as the shape has")
    parser.add_argument("--kind", default="Q4_K_M")
    parser.add_argument("--limit-gb", type=float, default=6.0, help="of resident memory")
    options = parser.parse_args()
    layers = options.layers or SHAPES[options.shape]["num_hidden_layers"]
    source = options.work / f"{options.shape}-{layers}"
    started = time.monotonic()
    config = write_random_checkpoint(source, options.shape, layers)
    weights = sum(math.prod(shape) for shape in config.tensor_shapes().values())
    print(f"{source}: {weights / 1e9:.2f} billion weights, {time.monotonic() - started:.0f} s", flush=True)
    out = options.work / f"{source.name}-out" / f"random-{options.kind}.gguf"
    out.parent.mkdir(exist_ok=True)
    for left in out.parent.glob("random-*"):
        left.unlink()
    command = [sys.executable, "-m", "toolace_edge", "convert", "gguf", str(source), str(out)]
    command += ["--kind", options.kind, "--no-verify"]
    whole_bytes = 2 * weights
    killed(command, out, "converting", lambda: written(out, "whole.gguf") > whole_bytes / 2)
    killed(command, out, "quantizing", lambda: written(out, "made.gguf") > whole_bytes / 20)
    left_alone(command, out, len(config.tensor_shapes()), options.limit_gb)


def killed(command: list[str], out: Path, when: str, is_time: Callable[[], bool]) -> None:
    """Runs `command`, kills it when `is_time`, and sees what is left."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    family = {process.pid}
    while not is_time():
        check(process.poll() is None, f"the conversion ended with {process.returncode} before it could be killed")
        family |= set(with_children(process.pid))
        time.sleep(LOOK_EVERY_S / 10)
    family |= set(with_children(process.pid))
    process.kill()
    process.wait()
    deadline = time.monotonic() + PATIENCE_S
    while alive := [pid for pid in family if is_running(pid)]:
        check(time.monotonic() < deadline, f"{len(alive)} processes went on when theirs was killed while {when}")
        time.sleep(LOOK_EVERY_S)
    seen = [file.name for file in out.parent.iterdir() if not file.name.startswith(".")]
    hidden = sum(file.stat().st_size for file in out.parent.rglob("*") if file.is_file())
    check(not seen, f"killed while {when}, it left {', '.join(seen)}")
    print(f"killed while {when}: {len(family)} processes gone, {hidden / 1e9:.2f} GB hidden, no model", flush=True)


def left_alone(command: list[str], out: Path, tensors: int, limit_gb: float) -> None:
    started = time.monotonic()
    process = subprocess.Popen(command)
    peak = Peak()
    while process.poll() is None:
        look(process.pid, peak)
        time.sleep(LOOK_EVERY_S)
    seconds = time.monotonic() - started
    check(process.returncode == 0, f"the conversion ended with {process.returncode}")
    names = sorted(file.name for file in out.parent.iterdir())
    check(names == [out.name], f"besides the model there is {', '.join(names)}")
    header = read_header(out)  # refuses a file whose tensors do not lie inside it
    check(len(header.tensors) >= tensors, f"the model has {len(header.tensors)} tensors, not {tensors}")
    print(f"{out.name}: {out.stat().st_size / 1e9:.2f} GB in {seconds:.0f} s")
    print(f"peak memory {peak.resident / 1e9:.2f} GB resident, {peak.anonymous / 1e9:.2f} GB of it no file's")
    check(peak.resident <= limit_gb * 1e9, f"that is more than {limit_gb} GB")


def check(condition: bool, otherwise: str) -> None:
    if not condition:
        raise SystemExit(f"Failed: {otherwise}.")


def written(out: Path, name: str) -> int:
    """Bytes of `name` in a hidden folder beside `out`."""
    sizes = []
    for file in out.parent.glob(f".{out.name}.*/**/{name}"):
        try:
            sizes.append(file.stat().st_blocks * 512)
        except FileNotFoundError:  # renamed just now
            continue
    return max(sizes, default=0)


def look(pid: int, peak: Peak) -> None:
    resident = anonymous = 0
    for member in with_children(pid):
        try:
            lines = Path(f"/proc/{member}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines[10:])
                 if name.startswith(("VmRSS", "RssAnon"))}  # fmt: skip
        resident += sizes.get("VmRSS", 0)
        anonymous += sizes.get("RssAnon", 0)
    peak.resident, peak.anonymous = max(peak.resident, resident), max(peak.anonymous, anonymous)


def with_children(pid: int) -> list[int]:
    """`pid`, its children and theirs."""
    family = [pid]
    for parent in family:
        for task in Path(f"/proc/{parent}/task").glob("*"):
            try:
                family += map(int, (task / "children").read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return family


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


if __name__ == "__main__":
    main()
