"""Recipes: TOML files that hold every number of a training, read strictly.

A section is a frozen dataclass, a key one of its fields, and what a recipe leaves out has the default below. An unknown
section or key, a wrong type and a number out of range are errors that name the file and the key, before any work. The
recipes that come along lie in `recipes/` and go by their names; all others are paths.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar

from toolace_edge.errors import InputError, MissingDependency

SHIPPED = Path(__file__).with_name("recipes")
_Section = TypeVar("_Section")
_AT_LEAST_ONE = {"least": 1}
_POSITIVE = {"above": 0.0}
_NOT_NEGATIVE = {"least": 0}
_SHARE = {"least": 0.0, "most": 1.0}


@dataclass(frozen=True, slots=True)
class Rendering:
    """`[rendering]`: lines as the runtime writes them for this model. `length` is tokens; longer lines are left out."""

    format: Literal["compact", "toolace", "hermes"] = "hermes"
    length: int = field(default=4096, metadata=_AT_LEAST_ONE)


@dataclass(frozen=True, slots=True)
class Lora:
    """`[lora]`: arXiv 2106.09685. `targets`: `all-linear`, or names of layers. `merge`: write the merged model too."""

    rank: int = field(default=16, metadata=_AT_LEAST_ONE)
    alpha: float = field(default=32.0, metadata=_POSITIVE)
    dropout: float = field(default=0.0, metadata=_SHARE)
    targets: str | list[str] = "all-linear"
    merge: bool = True


@dataclass(frozen=True, slots=True)
class Training:
    """`[training]`: AdamW. `batch` is lines a step over all processes, `micro_batch` lines at once in each of them.

    `steps` of 0 means `epochs` times the data. `warmup` is a share of the steps, `log_every` and `save_every` are
    steps. `precision` is what is computed in; what is learned is kept in float32 either way.
    """

    epochs: float = field(default=2.0, metadata=_POSITIVE)
    steps: int = field(default=0, metadata=_NOT_NEGATIVE)
    batch: int = field(default=32, metadata=_AT_LEAST_ONE)
    micro_batch: int = field(default=2, metadata=_AT_LEAST_ONE)
    learning_rate: float = field(default=1e-4, metadata=_POSITIVE)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: float = field(default=0.03, metadata=_SHARE)
    weight_decay: float = field(default=0.0, metadata=_NOT_NEGATIVE)
    max_grad_norm: float = field(default=1.0, metadata=_POSITIVE)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = False
    log_every: int = field(default=10, metadata=_AT_LEAST_ONE)
    save_every: int = field(default=100, metadata=_AT_LEAST_ONE)
    seed: int = field(default=1, metadata=_NOT_NEGATIVE)


@dataclass(frozen=True, slots=True)
class TuneRecipe:
    """What `train tune` does. Without `lora` all weights are learned."""

    rendering: Rendering = field(default_factory=Rendering)
    training: Training = field(default_factory=Training)
    lora: Lora | None = None


@dataclass(frozen=True, slots=True)
class Rounds:
    """`[rounds]`: ToolACE-R's loop; toolace_r.py says what the numbers mean."""

    most: int = field(default=3, metadata=_AT_LEAST_ONE)
    k: int = field(default=4, metadata={"least": 2})
    temperature: float = field(default=1.0, metadata=_POSITIVE)
    solved: float = field(default=0.2, metadata=_SHARE)
    hopeless: float = field(default=0.1, metadata=_SHARE)
    unchanged: float = field(default=0.5, metadata=_SHARE)
    growth: float = field(default=0.02, metadata=_NOT_NEGATIVE)
    cumulative: bool = True
    start: Literal["last", "base"] = "last"
    selection: Literal["model", "random"] = "model"
    refinement: bool = True
    limit: int = field(default=0, metadata=_NOT_NEGATIVE)
    dev_limit: int = field(default=0, metadata=_NOT_NEGATIVE)
    dev_rounds: int = field(default=1, metadata=_NOT_NEGATIVE)
    seed: int = field(default=1, metadata=_NOT_NEGATIVE)


@dataclass(frozen=True, slots=True)
class Runtime:
    """`[runtime]`: what a checkpoint is converted to before it is sampled: precisions and kinds as of `convert`."""

    engine: Literal["onnx", "gguf"] = "onnx"
    precision: str = "int8"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`[endpoint]`: an OpenAI-compatible server is sampled instead, `in_flight` requests at once.

    `deploy` is run before each round and returns once the server answers with the checkpoint that takes the place of
    `{checkpoint}` in it.
    """

    url: str
    model: str
    deploy: list[str]
    in_flight: int = field(default=32, metadata=_AT_LEAST_ONE)


@dataclass(frozen=True, slots=True)
class Nano:
    """`[nano]`: the flags of `train model`, for a model of our own, whose shape is that of the base; `steps` are those
    of one round.
    """

    steps: int = field(default=1000, metadata=_AT_LEAST_ONE)
    q4_from: float = field(default=2.0, metadata=_NOT_NEGATIVE)
    threads: int = field(default=2, metadata=_AT_LEAST_ONE)
    eval_every: int = field(default=500, metadata=_AT_LEAST_ONE)
    seed: int = field(default=1, metadata=_NOT_NEGATIVE)


@dataclass(frozen=True, slots=True)
class Launch:
    """`[launch]`: what `-m toolace_edge.train ...` is put behind to train; nothing is this Python, one process."""

    command: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RoundsRecipe:
    """What `train rounds` does: `nano` trains our own model, otherwise `rendering`, `training`, `lora` any other."""

    rounds: Rounds = field(default_factory=Rounds)
    runtime: Runtime = field(default_factory=Runtime)
    launch: Launch = field(default_factory=Launch)
    rendering: Rendering = field(default_factory=Rendering)
    training: Training = field(default_factory=Training)
    lora: Lora | None = None
    nano: Nano | None = None
    endpoint: Endpoint | None = None


def find_recipe(name: str) -> Path:
    """The recipe of that name that comes along, or the file at that path. InputError where there is neither."""
    path = Path(name) if name.endswith(".toml") or "/" in name else SHIPPED / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
        raise InputError(f"There is no recipe {name!r}.", hint=f"Give a .toml file, or one of {known}.")
    return path


def read_tune(path: Path) -> TuneRecipe:
    """InputError names the file and the key."""
    recipe = _recipe(TuneRecipe, path)
    _check_training(recipe.training, path)
    return recipe


def _check_training(training: Training, path: Path) -> None:
    """A checkpoint between two lines of the log would make the next one another mean; lines are shared evenly."""
    if training.batch % training.micro_batch:
        raise InputError(f"{path}: training.batch must be a multiple of training.micro_batch.")
    if training.save_every % training.log_every:
        raise InputError(f"{path}: training.save_every must be a multiple of training.log_every.")


def read_rounds(path: Path) -> RoundsRecipe:
    """InputError names the file and the key; also where two sections exclude each other."""
    recipe = _recipe(RoundsRecipe, path)
    _check_training(recipe.training, path)
    if recipe.nano is not None:
        if recipe.lora is not None or recipe.endpoint is not None:
            raise InputError(f"{path}: [nano] goes with neither [lora] nor [endpoint].")
        if recipe.rendering.format != "compact":
            raise InputError(f'{path}: [nano] trains models that write compact; set rendering.format = "compact".')
    if recipe.lora is not None and not recipe.lora.merge and (recipe.rounds.start == "last" or not recipe.endpoint):
        raise InputError(f"{path}: lora.merge must be true: the merged model is what the next round asks.")
    if recipe.rounds.solved + recipe.rounds.hopeless >= 1:
        raise InputError(f"{path}: rounds.solved and rounds.hopeless leave no room for the lines in between.")
    return recipe


def as_toml(sections: Mapping[str, Any]) -> str:
    """Sections (dataclasses; None is left out) as a recipe that reads back as the same."""
    lines: list[str] = []
    for name, section in sections.items():
        if section is not None:
            lines += [f"[{name}]", *(f"{key} = {_toml_value(value)}" for key, value in asdict(section).items()), ""]
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04x}" if c < " " or c in '"\\\x7f' else c for c in value)
        return f'"{escaped}"'
    return repr(value)


def _recipe(kind: type[_Section], path: Path) -> _Section:
    try:
        found = _toml().loads(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}.") from error
    sections = {one.name: _section_type(kind, one.name) for one in fields(kind)}  # type: ignore[arg-type]
    for name in found:
        if name not in sections:
            raise InputError(f"{path}: there is no section [{name}].", hint=f"Sections are {', '.join(sections)}.")
    read = {name: _section(sections[name], found[name], name, path) for name in found}
    return kind(**read)


def _toml() -> Any:
    """Python's own from 3.11 on; the same by another name before."""
    for name in ("tomllib", "tomli"):
        if find_spec(name) is not None:
            return import_module(name)
    raise MissingDependency("tomli", "train-hf")


def _section_type(kind: type[Any], name: str) -> type[Any]:
    wanted = typing.get_type_hints(kind)[name]
    arms = [arm for arm in typing.get_args(wanted) if arm is not type(None)]
    section: type[Any] = arms[0] if arms else wanted
    return section


def _section(kind: type[Any], found: Any, section: str, path: Path) -> Any:
    if not isinstance(found, dict):
        raise InputError(f"{path}: {section} must be a section: write [{section}] above its keys.")
    hints, known = typing.get_type_hints(kind), {one.name: one for one in fields(kind)}
    values = {}
    for key, value in found.items():
        where = f"{path}: {section}.{key}"
        if key not in known:
            raise InputError(f"{where} is no key of a recipe.", hint=f"[{section}] has {', '.join(known)}.")
        values[key] = _value(hints[key], value, where)
        _check_range(known[key].metadata, values[key], where)
    try:
        return kind(**values)
    except TypeError as error:  # a key without a default
        missing = [name for name in known if f"'{name}'" in str(error)]
        raise InputError(f"{path}: [{section}] needs {', '.join(missing)}.") from error


def _value(wanted: Any, value: Any, where: str) -> Any:
    """`value` as a field of that type takes it."""
    origin = typing.get_origin(wanted)
    if origin is Literal:
        if value in typing.get_args(wanted):
            return value
        raise InputError(f"{where} is {value!r}, which is none of {', '.join(typing.get_args(wanted))}.")
    arms = typing.get_args(wanted) if origin is UnionType else (wanted,)
    for arm in arms:
        if arm is float and type(value) in (int, float) and math.isfinite(value):
            return float(value)
        if arm in (int, bool, str) and type(value) is arm:
            return value
        if arm == list[str] and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    raise InputError(f"{where} is {value!r}; it must be {' or '.join(names.get(a, 'a list of texts') for a in arms)}.")


def _check_range(bounds: Mapping[str, float], value: Any, where: str) -> None:
    if "least" in bounds and not value >= bounds["least"]:
        raise InputError(f"{where} is {value}; the least is {bounds['least']}.")
    if "above" in bounds and not value > bounds["above"]:
        raise InputError(f"{where} is {value}; it must be more than {bounds['above']:g}.")
    if "most" in bounds and not value <= bounds["most"]:
        raise InputError(f"{where} is {value}; the most is {bounds['most']}.")
