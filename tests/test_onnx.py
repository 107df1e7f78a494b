"""A checkpoint becomes a model folder that onnxruntime runs as transformers runs the checkpoint."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests import engine_contract
from tests.checkpoints import CONFIG, FAMILIES, LLAMA3_SCALING, random_tensors, write_checkpoint
from toolace_edge.engines import open_engine
from toolace_edge.engines.onnx import OnnxEngine
from toolace_edge.errors import BudgetError, Cancelled, InputError, ModelError
from toolace_edge.store import Store

onnx = pytest.importorskip("onnx")

from tests.reference_logits import compare_logits, reference_logits  # noqa: E402
from toolace_edge.convert import onnx as convert_onnx_module  # noqa: E402
from toolace_edge.convert.checkpoint import read_checkpoint  # noqa: E402
from toolace_edge.convert.onnx import ACTIVATIONS, QUANTIZED, convert_onnx  # noqa: E402
from toolace_edge.convert.quantize import quantize_blocks  # noqa: E402

SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False, "num_key_value_heads": 4},
    "odd": {"hidden_size": 72, "intermediate_size": 80, "num_attention_heads": 6, "head_dim": 16},  # no whole blocks
    "scaled": {"rope_theta": 5000.0, "rope_scaling": LLAMA3_SCALING, "num_key_value_heads": 1, "head_dim": 48},
}
IDS = np.random.default_rng(1).integers(16, 400, 90).tolist()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Model folders by shape and precision, converted once; beside each lies its `checkpoint`."""
    root = tmp_path_factory.mktemp("models")

    def folder(shape: str = "tied", precision: str = "int8") -> Path:
        source, out = root / shape / "checkpoint", root / shape / precision
        if not source.exists():
            write_checkpoint(source, **SHAPES[shape])
        activations = "int8" if precision in QUANTIZED else None
        return (
            out
            if out.exists()
            else convert_onnx(source, out, precision=precision, activations=activations, name="tiny")
        )

    return folder


@pytest.fixture
def engine(folders: Callable[..., Path]) -> Iterator[OnnxEngine]:
    with OnnxEngine(folders(), threads=1, chunk=16) as engine:
        yield engine


@pytest.mark.parametrize("check", engine_contract.CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Callable[[Any, Path], None], engine: OnnxEngine, tmp_path: Path) -> None:
    check(engine, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_float_logits_are_those_of_transformers_however_they_are_asked_for(
    shape: str, folders: Callable[..., Path]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = folders(shape, "fp32")
    (expected,) = reference_logits(folder.parent / "checkpoint", [IDS])
    with OnnxEngine(folder, threads=1, chunk=32) as engine:
        assert np.abs(engine.forward(IDS, n_logits=len(IDS)) - expected).max() < 1e-3
        engine.rewind(0)
        parts = [engine.forward(IDS[a:b], n_logits=b - a).copy() for a, b in ((0, 1), (1, 34), (34, 35), (35, 90))]
        assert np.abs(np.concatenate(parts) - expected).max() < 1e-3
        for length in (60, 7):
            engine.rewind(length)
            engine.forward([3, 4, 5])
            engine.rewind(length)
            assert np.abs(engine.forward(IDS[length:], n_logits=2) - expected[-2:]).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("precision", "error", "top1"),
    [("fp32", 1e-3, 0.995), ("fp16", 2e-2, 0.98), ("int8", 0.5, 0.9), ("int4", 3.0, 0.4)],
)
def test_logits_of_every_family_are_those_of_transformers(
    family: str, precision: str, error: float, top1: float, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    source = write_checkpoint(tmp_path / family, **FAMILIES[family])
    out = convert_onnx(source, tmp_path / precision, precision=precision, name=family)
    with OnnxEngine(out, threads=1, chunk=64) as engine:
        comparison = compare_logits(source, engine, [IDS, IDS[::-1], IDS[20:] + IDS])
    assert comparison.max_error <= error, comparison
    assert comparison.top1_agreement >= top1, comparison


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_every_family_runs_in_parts_as_in_one(family: str, tmp_path: Path) -> None:
    out = convert_onnx(
        write_checkpoint(tmp_path / family, **FAMILIES[family]), tmp_path / "m", precision="fp32", name="m"
    )
    with OnnxEngine(out, threads=1, chunk=16) as engine:
        whole = engine.forward(IDS, n_logits=20)
        engine.rewind(70)
        assert np.abs(engine.forward(IDS[70:], n_logits=20) - whole).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "kl", "top1"), [("int8", 1e-3, 0.9), ("int4", 5e-2, 0.5)])
def test_quantized_logits_stay_close_to_those_of_transformers(
    precision: str, kl: float, top1: float, folders: Callable[..., Path]
) -> None:
    """Random weights are the hardest case: their logits are nearly level, and their outliers as many as can be."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = folders("tied", precision)
    with OnnxEngine(folder, threads=1) as engine:
        comparison = compare_logits(folder.parent / "checkpoint", engine, [IDS, IDS[::-1]])
    assert comparison.n == 2 * len(IDS)
    assert comparison.kl < kl, comparison
    assert comparison.top1_agreement > top1, comparison


@pytest.mark.parametrize(("bits", "steps"), [(8, 127), (4, 7)])
def test_quantized_numbers_are_at_most_a_step_away(bits: Any, steps: int) -> None:
    weight = np.random.default_rng(0).normal(size=(50, 96)).astype(np.float32)
    weight[3] = 0
    weight[4] = 1e-38
    weight[5, :32] = 7.5
    quantized = quantize_blocks(weight, bits)
    assert quantized.packed.shape == (50, 3, 32 * bits // 8)
    error = np.abs(quantized.dequantize() - weight).reshape(50, 3, 32).max(-1)
    largest = np.abs(weight).reshape(50, 3, 32).max(-1)
    assert (error <= largest / steps * 1.8 + 1e-30).all()
    assert np.array_equal(quantized.dequantize()[3], weight[3])
    with pytest.raises(ValueError, match="blocks"):
        quantize_blocks(weight[:, :95], bits)


def test_a_weight_on_the_grid_keeps_its_bits() -> None:
    from gguf import GGMLQuantizationType, dequantize, quantize

    weight = np.random.default_rng(1).normal(size=(40, 96)).astype(np.float32) * 0.05
    for kind, bits in ((GGMLQuantizationType.Q4_0, 4), (GGMLQuantizationType.Q8_0, 8)):
        on_grid = dequantize(quantize(weight, kind), kind)
        quantized = quantize_blocks(on_grid, bits)  # type: ignore[arg-type]
        assert quantized.scales.dtype == np.float16
        assert np.array_equal(quantized.dequantize(), on_grid)


def test_eight_bits_hold_what_q4_0_does() -> None:
    from gguf import GGMLQuantizationType, dequantize, quantize

    weight = np.random.default_rng(2).normal(size=(40, 96)).astype(np.float32) * 0.05
    on_grid = dequantize(quantize(weight, GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0)
    assert np.array_equal(quantize_blocks(on_grid, 8).dequantize(), on_grid)


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_without_the_rounding_of_activations_weights_on_the_grid_give_the_logits_of_fp32(
    precision: str, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "source")
    file = source / "model.safetensors"
    on_grid = {
        name: quantize_blocks(values, 4).dequantize() if values.ndim == 2 else values
        for name, values in load_file(file).items()
    }
    save_file(on_grid, file)

    def logits(name: str, **options: str) -> NDArray[np.float32]:
        with OnnxEngine(convert_onnx(source, tmp_path / name, name=name, **options), threads=1) as engine:  # type: ignore[arg-type]
            parts = [engine.forward(IDS[a:b], n_logits=b - a).copy() for a, b in ((0, 1), (1, 40), (40, 90))]
        return np.concatenate(parts)

    exact = logits("fp32", precision="fp32")
    errors = {
        kind: float(np.square(logits(kind, precision=precision, activations=kind) - exact).mean())
        for kind in ACTIVATIONS
    }
    assert errors["float32"] < 1e-8 < errors["head"] < errors["int8"]
    facts = json.loads((tmp_path / "head" / "toolace.json").read_text())
    assert (facts["precision"], facts["activations"]) == (precision, "head")


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_without_a_word_only_large_models_round_them(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_checkpoint(tmp_path / "source")
    count = sum(values.size for values in random_tensors(CONFIG).values())
    for limit, activations in ((count, "float32"), (count - 1, "int8")):
        monkeypatch.setattr(convert_onnx_module, "EXACT_WEIGHTS", limit)
        out = convert_onnx(source, tmp_path / activations, precision=precision, name="m")
        asked = convert_onnx(source, tmp_path / "asked", precision=precision, name="m", activations=activations)
        assert json.loads((out / "toolace.json").read_text())["activations"] == activations
        assert (out / "model.onnx").read_bytes() == (asked / "model.onnx").read_bytes()


def test_activations_are_of_quantized_matrices(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    with pytest.raises(InputError, match="'half', not one of int8, head, float32"):
        convert_onnx(source, tmp_path / "m", name="m", activations="half")
    for options in ({"precision": "fp32"}, {"exporter": "optimum"}):
        with pytest.raises(InputError, match="there is none"):
            convert_onnx(source, tmp_path / "m", name="m", activations="float32", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "m").exists()


def test_a_tied_embedding_is_stored_once(folders: Callable[..., Path]) -> None:
    weights = sum(values.size for values in random_tensors(CONFIG).values())
    rotary = 2 * 256 * 16 * 4
    assert (folders("tied", "int8") / "model.onnx").stat().st_size < weights * 1.0625 + rotary + 12_000
    assert (folders("tied", "int4") / "model.onnx").stat().st_size < weights * 0.5625 + rotary + 12_000


def test_the_same_checkpoint_gives_the_same_bytes(folders: Callable[..., Path], tmp_path: Path) -> None:
    first = folders()
    again = convert_onnx(
        first.parent / "checkpoint", tmp_path / "again", precision="int8", activations="int8", name="tiny"
    )
    assert all((again / file.name).read_bytes() == file.read_bytes() for file in first.iterdir())


def test_an_older_model_is_replaced_and_other_folders_are_not(folders: Callable[..., Path], tmp_path: Path) -> None:
    source = folders().parent / "checkpoint"
    out = convert_onnx(source, tmp_path / "model", precision="int4", name="old")
    convert_onnx(source, out, precision="int8", name="new", fmt="hermes", calibration={"a": 1}, n_ctx=64)
    facts = json.loads((out / "toolace.json").read_text())
    assert (facts["architecture"], facts["precision"]) == ("llama", "int8")
    assert (facts["name"], facts["format"], facts["calibration"], facts["n_ctx"]) == ("new", "hermes", {"a": 1}, 64)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(InputError, match="not a model folder"):
        convert_onnx(source, tmp_path, precision="int8", name="x")
    with pytest.raises(InputError, match="n_ctx is 257"):
        convert_onnx(source, out, precision="int8", name="x", n_ctx=257)


def test_a_folder_and_its_file_open_alike(folders: Callable[..., Path]) -> None:
    with open_engine(folders()) as one, open_engine(folders() / "model.onnx", n_ctx=40) as other:
        assert isinstance(one, OnnxEngine)
        assert (one.n_ctx, other.n_ctx) == (256, 40)
        assert np.array_equal(one.forward(IDS[:20]), other.forward(IDS[:20]))
    with pytest.raises(BudgetError, match="n_ctx is 300"):
        open_engine(folders(), n_ctx=300)


def test_a_cancel_stops_between_chunks(engine: OnnxEngine) -> None:
    engine.cancelled = lambda: len(engine.tokens) >= 32
    with pytest.raises(Cancelled):
        engine.forward(IDS)
    assert list(engine.tokens) == IDS[:32]


def test_token_ids_outside_the_vocabulary_are_refused(engine: OnnxEngine) -> None:
    for token in (-1, engine.vocab_size):
        with pytest.raises(ValueError, match="token id"):
            engine.forward([1, token])


def test_a_saved_cache_of_other_weights_is_refused(engine: OnnxEngine, folders: Any, tmp_path: Path) -> None:
    engine.forward(IDS)
    engine.save(tmp_path / "cache")
    with OnnxEngine(folders("tied", "int4"), threads=1) as other, pytest.raises(ModelError, match="another model"):
        other.load(tmp_path / "cache")
    with OnnxEngine(folders(), threads=1, n_ctx=64) as small, pytest.raises(ModelError, match="90 tokens"):
        small.load(tmp_path / "cache")


def model(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """A model.onnx changed by someone who also puts its new hash on record."""

    def damage(folder: Path) -> None:
        proto = onnx.load_model(folder / "model.onnx")
        change(proto)
        rehash(folder, proto.SerializeToString())

    return damage


def rehash(folder: Path, content: bytes) -> None:
    (folder / "model.onnx").write_bytes(content)
    facts(lambda known: known["sha256"].update({"model.onnx": hashlib.sha256(content).hexdigest()}))(folder)


def facts(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        known = json.loads((folder / "toolace.json").read_text())
        change(known)
        (folder / "toolace.json").write_text(json.dumps(known))

    return damage


def external(proto: Any) -> None:
    tensor = proto.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "/etc/passwd", "offset": "0", "length": "8"}.items():
        tensor.external_data.add(key=key, value=value)


def in_memory(proto: Any) -> None:
    """onnxruntime's own name for an address in its memory."""
    external(proto)
    proto.graph.initializer[0].external_data[0].value = "*/_ORT_MEM_ADDR_/*"


def endless(proto: Any) -> None:
    external(proto)
    del proto.graph.initializer[0].external_data[1:]


def beside(proto: Any) -> None:
    """A file of the folder that is not one of the model's."""
    external(proto)
    proto.graph.initializer[0].external_data[0].value = "VERIFY.md"


def hidden(proto: Any) -> None:
    """Weights elsewhere, for a constant inside a node."""
    constant = onnx.helper.make_node("Constant", [], ["c"], value=onnx.helper.make_tensor("c", 1, [1], [1.0]))
    constant.attribute[0].t.external_data.add(key="location", value="/etc/passwd")
    constant.attribute[0].t.data_location = onnx.TensorProto.EXTERNAL
    proto.graph.node.append(constant)


def nested(proto: Any) -> None:
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("body", onnx.helper.make_graph([], "g", [], [])))


def foreign(proto: Any) -> None:
    proto.graph.node[0].op_type = "Loop"


def sparse(proto: Any) -> None:
    proto.graph.sparse_initializer.add()


def narrow(proto: Any) -> None:
    proto.graph.input[-1].type.tensor_type.shape.dim[1].dim_value = 7


def unwired(proto: Any) -> None:
    proto.graph.node[1].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx cannot be read"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"junk"), "damaged or was changed"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "damaged or was changed"),
        (lambda folder: (folder / "toolace.json").unlink(), "toolace.json cannot be read"),
        (lambda folder: (folder / "toolace.json").write_text("{"), "toolace.json is damaged"),
        (facts(lambda known: known.pop("n_layers")), "'n_layers' is missing"),
        (facts(lambda known: known.update(n_ctx=1 << 30)), "n_ctx makes no sense"),
        (facts(lambda known: known.update(n_layers=3)), "other inputs"),
        (facts(lambda known: known.update(head_dim=64)), "other sizes"),
        (facts(lambda known: known.update(vocab_size=9000)), "other sizes"),
        (lambda folder: rehash(folder, b"junk"), "not an ONNX model"),
        (lambda folder: rehash(folder, b""), "0 graphs"),
        (lambda folder: rehash(folder, (folder / "model.onnx").read_bytes()[:9000]), "cut short"),
        (model(external), "weights in another file, '/etc/passwd'"),
        (model(in_memory), "weights in another file"),
        (model(endless), "without their place in it"),
        (model(beside), "no file 'VERIFY.md' of its own"),
        (model(hidden), "without their place in it"),
        (model(nested), "inside a node"),
        (model(foreign), "operator 'Loop'"),
        (model(sparse), "sparse weights"),
        (model(lambda proto: proto.functions.add()), "functions"),
        (model(narrow), "other sizes|cannot load"),
        (model(unwired), "cannot load"),
    ],
)
def test_a_damaged_model_is_refused_with_a_sentence(
    damage: Callable[[Path], None], says: str, folders: Callable[..., Path], tmp_path: Path, capfd: Any
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in folders().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    damage(folder)
    with pytest.raises(ModelError, match=says) as raised:
        open_engine(folder)
    assert str(folder) in str(raised.value)
    assert capfd.readouterr().err == ""


@pytest.fixture
def large(folders: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that does not fit into one file, where the limit is lower."""
    monkeypatch.setattr(convert_onnx_module, "MAX_INSIDE_BYTES", 50_000)
    return convert_onnx(
        folders().parent / "checkpoint", tmp_path / "large", precision="int8", activations="int8", name="tiny"
    )


def test_a_large_model_has_its_weights_beside_it(folders: Callable[..., Path], large: Path, tmp_path: Path) -> None:
    assert sorted(file.name for file in large.iterdir()) == [
        *("model.onnx", "model.onnx.data", "tokenizer.json", "toolace.json"),
    ]
    inside = {tensor.name: tensor for tensor in onnx.load_model(folders() / "model.onnx").graph.initializer}
    graph = onnx.load_model(large / "model.onnx", load_external_data=False).graph
    places = {one.name: {entry.key: entry.value for entry in one.external_data} for one in graph.initializer}
    content, end = (large / "model.onnx.data").read_bytes(), 0
    assert places.keys() == inside.keys()
    for name, tensor in inside.items():
        if not places[name]:
            assert len(tensor.raw_data) < 4096
            continue
        offset, length = (int(places[name][key]) for key in ("offset", "length"))
        assert offset % 4096 == 0
        assert offset >= end
        assert content[offset : offset + length] == tensor.raw_data
        end = offset + length
    assert end == len(content)
    with OnnxEngine(folders(), threads=1) as one, OnnxEngine(large, threads=1) as other:
        assert np.array_equal(one.forward(IDS, n_logits=9), other.forward(IDS, n_logits=9))
        assert one.fingerprint != other.fingerprint


def test_a_large_model_can_be_moved_and_added_to_the_store(large: Path, tmp_path: Path) -> None:
    moved, store = large.rename(tmp_path / "elsewhere"), Store(tmp_path / "store")
    manifest = store.add(moved, name="l")
    assert "model.onnx.data" in {file.path for file in manifest.files}
    for place in (moved / "model.onnx", store.path(manifest)):
        with open_engine(place) as engine:
            engine.forward(IDS)


def truncate(folder: Path) -> None:
    file = folder / "model.onnx.data"
    file.write_bytes(file.read_bytes()[:-1])


def flip(folder: Path) -> None:
    file = folder / "model.onnx.data"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])


def leave(folder: Path) -> None:
    (folder / "model.onnx.data").rename(folder.parent / "data")
    (folder / "model.onnx.data").symlink_to("../data")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, r"model\.onnx\.data is cut short: it has \d+ of at least \d+ bytes"),
        (flip, r"model\.onnx\.data is damaged or was changed"),
        (leave, r"no file 'model\.onnx\.data' of its own"),
        (lambda folder: (folder / "model.onnx.data").unlink(), r"no file 'model\.onnx\.data' of its own"),
        (facts(lambda known: known["sha256"].pop("model.onnx.data")), r"no file 'model\.onnx\.data' of its own"),
    ],
)
def test_damaged_weights_beside_a_model_are_refused(damage: Callable[[Path], None], says: str, large: Path) -> None:
    damage(large)
    with pytest.raises(ModelError, match=says) as raised:
        open_engine(large)
    assert str(large) in str(raised.value)


def test_a_large_model_is_written_in_the_memory_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor is gone from memory when the next is asked for, the joined and turned ones too."""
    changes = {"num_hidden_layers": 30, "hidden_size": 128, "intermediate_size": 512, "tie_word_embeddings": False}
    source = write_checkpoint(tmp_path / "checkpoint", **changes)
    size = (source / "model.safetensors").stat().st_size
    peaks = []
    for limit in (0, 1 << 40):
        monkeypatch.setattr(convert_onnx_module, "MAX_INSIDE_BYTES", limit)
        tracemalloc.start()
        convert_onnx_module._write_own(read_checkpoint(source), "fp32", "int8", 64, "m", tmp_path / "model.onnx")
        peaks.append(tracemalloc.get_traced_memory()[1] / size)
        tracemalloc.stop()
    beside, inside = peaks
    assert beside < 0.25
    assert inside > 0.9


def test_progress_counts_tensors(folders: Callable[..., Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = folders().parent / "checkpoint"
    convert_onnx(source, tmp_path / "m", precision="fp32", name="m", on_progress=lambda *step: seen.append(step))
    total = len(random_tensors(CONFIG))
    assert seen[-1] == (total, total)
    assert sorted(set(seen)) == [(done, total) for done in range(1, total + 1)]
