"""The model store: what goes in comes out, what is no model does not go in, and damage is a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolace_edge import paths, registry
from toolace_edge.errors import InputError, ModelError
from toolace_edge.manifest import is_inside, is_name, name_from
from toolace_edge.model_facts import FILE_TYPES, read_model_facts
from toolace_edge.store import Store

from .test_gguf_header import gguf, text, u32

MODEL = gguf(
    text("general.file_type") + u32(4) + u32(15),
    text("llama.context_length") + u32(4) + u32(2048),
    text("general.license") + u32(8) + text("mit"),
    text("toolace.format") + u32(8) + text("hermes"),
)


def onnx_files(**facts: Any) -> dict[str, bytes]:
    """A model folder with the least that the engine's checks let through: an empty graph."""
    files = {"model.onnx": b"\x3a\x00", "tokenizer.json": b"{}"}
    sizes = dict.fromkeys(("n_ctx", "n_layers", "n_kv_heads", "head_dim", "vocab_size"), 8)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    toolace = {"name": "x", "format": "compact", **sizes, "sha256": hashes, **facts}
    return {**files, "toolace.json": json.dumps(toolace).encode()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, which the registry looks into too."""
    monkeypatch.setenv("TOOLACE_EDGE_HOME", str(tmp_path / "home"))
    return Store.default()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tiny-Q4_K_M.gguf").write_bytes(MODEL)
    return tmp_path / "tiny-Q4_K_M.gguf"


def test_a_gguf_is_copied_with_its_facts(store: Store, file: Path) -> None:
    told: list[int] = []
    manifest = store.add(file, progress=told.append)
    assert store.read("tiny-Q4_K_M") == manifest
    assert (manifest.kind, manifest.format, manifest.licence, manifest.link) == ("gguf", "hermes", "mit", None)
    assert (manifest.source, manifest.size_bytes, sum(told)) == (str(file), len(MODEL), len(MODEL))
    assert manifest.files[0].sha256 == hashlib.sha256(MODEL).hexdigest()
    file.unlink()
    assert store.path(manifest).read_bytes() == MODEL


def test_the_registry_knows_the_names_of_the_store(store: Store, file: Path) -> None:
    store.add(file, name="mine", format_name="toolace")
    entry = registry.find("mine")
    assert (entry.kind, entry.path) == ("gguf", store.root / "mine/model/tiny-Q4_K_M.gguf")
    registry.verify(entry)
    with pytest.raises(ModelError) as caught:
        registry.find("other")
    assert "mine" in caught.value.hint


def test_what_was_said_when_it_was_added_goes_before_the_file(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("toolace_edge.engines.base.open_engine", lambda path, **options: opened.append(path))
    store.add(file, name="mine", format_name="toolace")
    store.add(file, name="its-own")
    assert registry.open_model("mine").format.name == "toolace"
    assert registry.open_model("its-own").format.name == "hermes"
    assert registry.open_model("mine", format_name="compact").format.name == "compact"
    assert opened[0] == registry.find("mine").path


def test_a_changed_file_is_found_before_it_opens(store: Store, file: Path) -> None:
    path = store.path(store.add(file, name="mine"))
    path.write_bytes(MODEL[:-1] + b"x")
    with pytest.raises(ModelError, match="damaged or was changed"):
        registry.open_model("mine")


def test_a_link_stays_where_it_is_and_outlives_the_removal(store: Store, file: Path) -> None:
    manifest = store.add(file, name="mine", link=True)
    assert (store.path(manifest), manifest.link) == (file, str(file))
    assert not (store.root / "mine/model").exists()
    registry.verify(registry.find("mine"))
    store.remove("mine")
    assert (file.exists(), store.names()) == (True, [])


def test_a_link_to_what_is_gone_is_a_sentence(store: Store, file: Path) -> None:
    store.add(file, name="mine", link=True)
    file.unlink()
    with pytest.raises(ModelError, match="missing from the model mine"):
        registry.open_model("mine")


@pytest.mark.parametrize("given", ["folder", "folder/model.onnx"])
def test_a_model_folder_is_copied_with_its_card_only(store: Store, tmp_path: Path, given: str) -> None:
    write(tmp_path / "folder", {**onnx_files(), "README.md": b"card", "notes.txt": b"mine"})
    manifest = store.add(tmp_path / given)
    assert (manifest.name, manifest.kind, manifest.format) == ("folder", "onnx", "compact")
    copied = {file.name for file in store.path(manifest).iterdir()}
    assert copied == {"README.md", "model.onnx", "tokenizer.json", "toolace.json"}
    registry.verify(registry.find("folder"))


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({**onnx_files(), "model.onnx": b"\x3a\x01"}, ModelError, "damaged or was changed"),
        ({**onnx_files(), "toolace.json": b"["}, ModelError, "damaged"),
        ({"config.json": b"{}", "model.safetensors": b""}, InputError, "which no engine runs"),
        ({"model.onnx": b""}, InputError, "has no toolace.json"),
    ],
)
def test_a_folder_that_no_engine_runs_is_refused(
    store: Store, tmp_path: Path, files: dict[str, bytes], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        store.add(write(tmp_path / "folder", files))
    assert left(store) == []


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.gguf", b"", ModelError),
        ("a.gguf", b"GGUF", ModelError),
        ("a.gguf", MODEL[:-40], ModelError),
        ("a.bin", MODEL, InputError),
    ],
)
def test_a_file_that_no_engine_runs_is_refused(
    store: Store, tmp_path: Path, name: str, content: bytes, error: type[Exception]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        store.add(tmp_path / name)
    assert left(store) == []


def left(store: Store) -> list[str]:
    return sorted(entry.name for entry in store.root.iterdir()) if store.root.exists() else []


def test_a_full_disk_leaves_nothing_behind(store: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(count: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.add(file, progress=full)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(ModelError, match="do not fit into"):
        store.add(file)
    assert left(store) == []


def test_a_name_is_given_once(store: Store, file: Path) -> None:
    store.add(file, name="mine")
    with pytest.raises(InputError, match="in the store already"):
        store.add(file, name="mine")
    with pytest.raises(InputError, match="came with the program"):
        store.add(file, name="nano", reserved=("nano",))


@pytest.mark.parametrize("name", ["a", "ToolACE-8B-Q4_K_M", "x.1", "7b", "a" * 128])
def test_a_good_name_is_allowed(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".a", "a/b", "a\\b", "a..b", "a:b", "a b", "-a", "a.", "nul", "COM1.x", "é", "a\n", "a" * 129],
)
def test_a_name_that_could_leave_the_store_is_refused(store: Store, file: Path, name: str) -> None:
    assert not is_name(name)
    assert not store.holds(name)
    if name:
        with pytest.raises(InputError, match="cannot be the name"):
            store.add(file, name=name)
    with pytest.raises(InputError, match="cannot be the name"):
        store.remove(name)


@pytest.mark.parametrize(("text", "name"), [("my model (2).x", "my-model-2-.x"), ("..a..b", "a.b"), ("_x_", "x")])
def test_a_file_name_becomes_a_name(text: str, name: str) -> None:
    assert name_from(text) == name


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a//b", "./a", "a\\b", "C:a", "a\0", "a/"])
def test_a_path_that_leads_outside_is_known(path: str) -> None:
    assert not is_inside(path)
    assert is_inside("a/b.gguf")


FINE = {"path": "a.gguf", "size_bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "change",
    [
        "not json",
        [],
        {"manifest": 2},
        {"name": "other"},
        {"kind": "pickle"},
        {"files": []},
        {"files": [FINE, FINE]},
        {"files": [{**FINE, "path": "../../secret"}]},
        {"files": [{**FINE, "size_bytes": "1"}]},
        {"files": [{**FINE, "sha256": "x"}]},
        {"files": [1]},
        {"files": None},
        {"format": 1},
        {"link": []},
    ],
)
def test_a_manifest_damaged_by_hand_is_a_sentence(store: Store, file: Path, change: Any) -> None:
    store.add(file, name="mine")
    path = store.root / "mine/manifest.json"
    facts = {**json.loads(path.read_text()), **change} if isinstance(change, dict) else change
    path.write_text(facts if isinstance(facts, str) else json.dumps(facts))
    with pytest.raises(ModelError, match="The model mine in the store is damaged") as caught:
        registry.find("mine")
    assert "models rm mine" in caught.value.hint
    store.remove("mine")
    assert store.names() == []


def test_a_folder_without_a_manifest_is_a_damaged_model(store: Store) -> None:
    (store.root / "mine").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"has no manifest\.json"):
        registry.find("mine")


def test_a_store_that_is_a_file_is_a_sentence(store: Store) -> None:
    store.root.parent.mkdir()
    store.root.write_text("")
    with pytest.raises(ModelError, match="cannot be read"):
        store.names()


def test_what_a_killed_process_left_is_swept_up_after_a_day(store: Store, file: Path) -> None:
    for name, age_s in ((".adding-old", 90_000), (".removed-old", 90_000), (".adding-new", 60)):
        (store.root / name).mkdir(parents=True)
        when = file.stat().st_mtime - age_s
        os.utime(store.root / name, (when, when))
    store.add(file, name="mine")
    assert left(store) == [".adding-new", "mine"]


ADD_MANY = """
import sys, time
from pathlib import Path
from toolace_edge.errors import InputError
from toolace_edge.store import Store
store, file, me = Store(Path(sys.argv[1])), sys.argv[2], sys.argv[3]
Path(f"{file}.{me}").touch()
while len(list(Path(file).parent.glob("*.gguf.*"))) < 2:
    time.sleep(0.001)
won = 0
for i in range(40):
    store.add(file, name=f"{me}-{i}")
    try:
        store.add(file, name=f"both-{i}")
        won += 1
    except InputError:
        pass
print(won)
"""


def test_two_processes_that_add_at_once_each_win_or_are_told(store: Store, file: Path) -> None:
    command = [sys.executable, "-c", ADD_MANY, str(store.root), str(file)]
    both = [subprocess.Popen([*command, me], stdout=subprocess.PIPE, text=True) for me in ("a", "b")]
    won = [int(process.communicate(timeout=300)[0]) for process in both]
    assert sum(won) == 40
    assert left(store) == sorted(f"{who}-{i}" for who in ("a", "b", "both") for i in range(40))
    for name in store.names():
        registry.verify(registry.stored(name, store))


def test_the_store_is_where_the_platform_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("TOOLACE_EDGE_HOME")
    places = {"linux": "xdg", "win32": "local", "darwin": "Library/Application Support"}
    for platform, place in places.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert paths.data_dir() == tmp_path / place / "toolace-edge"
    monkeypatch.setenv("TOOLACE_EDGE_HOME", "elsewhere")
    assert Store.default().root == Path("elsewhere/models")


def test_the_names_of_quantizations_are_llama_cpps() -> None:
    constants = pytest.importorskip("gguf.constants")
    official = {one.value: one.name.removeprefix("MOSTLY_").removeprefix("ALL_") for one in constants.LlamaFileType}
    assert {number: official[number] for number in FILE_TYPES} == FILE_TYPES


def test_a_file_that_does_not_say_is_called_by_most_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(gguf())
    facts = read_model_facts(tmp_path / "x.gguf", "gguf")
    assert (facts.architecture, facts.quantization, facts.n_ctx, facts.format) == ("llama", "F32", None, None)


@pytest.mark.parametrize("link", [False, True])
def test_a_file_is_held_to_the_hash_beside_it(store: Store, file: Path, link: bool) -> None:
    beside = file.with_name(f"{file.name}.sha256")
    beside.write_text(f"{'0' * 64}  {file.name}\n")
    with pytest.raises(ModelError, match="its SHA-256 is not the one in tiny-Q4_K_M"):
        store.add(file, link=link)
    assert store.names() == []
    beside.write_text(f"{hashlib.sha256(MODEL).hexdigest().upper()}  {file.name}\n")
    assert store.add(file, link=link).name == "tiny-Q4_K_M"


def test_a_name_is_held_letter_by_letter_where_the_disk_does_not_tell_cases_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    (tmp_path / "my-model").mkdir()
    (tmp_path / "My-Model").symlink_to(tmp_path / "my-model")  # what such a disk finds, and does not list
    monkeypatch.setattr(Store, "names", lambda _: ["my-model"])
    assert store.holds("my-model")
    assert not store.holds("My-Model")
