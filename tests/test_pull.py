"""`models pull` against a small hub on this machine: whole, resumed, damaged, refused, offline; never half a model."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from toolace_edge import registry
from toolace_edge.cli import cli
from toolace_edge.errors import InputError
from toolace_edge.model_facts import read_facts
from toolace_edge.pull import parse_reference
from toolace_edge.store import Store

from .hub_server import COMMIT, Hub, Repository, serve
from .test_gguf_header import gguf, strings, text, u32

pytest.importorskip("huggingface_hub")

MODEL = gguf(text("llama.context_length") + u32(4) + u32(2048), data=300_000)
OTHER = gguf(strings("x.names", "other"), data=200_000)
REPO = "someone/Tiny-1B-GGUF"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub, with huggingface_hub looking there and at no file of the user's."""
    from huggingface_hub import constants
    from huggingface_hub.utils import reset_sessions

    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_XET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("TOOLACE_EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.file_download.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr("toolace_edge.hub._RETRY_AFTER_S", (0.0, 0.0, 0.0))
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
        reset_sessions()
        yield hub
        reset_sessions()


def pull(*args: str) -> Result:
    return CliRunner().invoke(cli, ["models", "pull", *args])


def pulled(*args: str) -> dict[str, Any]:
    result = pull(*args, "--json")
    assert result.exit_code == 0, result.stderr
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def refused(code: int, *args: str) -> str:
    result = pull(*args)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)
    return " ".join(result.stderr.split())


def everything(home: Path) -> list[str]:
    """Every file and folder below the store, as paths."""
    root = home / "models"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*")) if root.exists() else []


def test_a_gguf_is_pulled_whole(hub: Hub, tmp_path: Path) -> None:
    card = {"license": "mit", "base_model": "Team-ACE/ToolACE-8B"}
    hub.repositories[REPO] = Repository({"README.md": b"# hi", "tiny-1b-q4_k_m.gguf": MODEL}, card)
    facts = pulled(REPO)
    assert (facts["name"], facts["kind"], facts["fetched"]) == ("Tiny-1B-Q4_K_M", "gguf", True)
    assert Path(facts["path"]).read_bytes() == MODEL
    manifest = Store.default().read("Tiny-1B-Q4_K_M")
    assert (manifest.source, manifest.revision, manifest.licence) == (f"hf:{REPO}", COMMIT, "mit")
    assert manifest.format == "toolace"  # of what it was made from, by the catalogue
    assert manifest.files[0].sha256 == hashlib.sha256(MODEL).hexdigest()
    assert everything(tmp_path / "home") == [
        "Tiny-1B-Q4_K_M",
        "Tiny-1B-Q4_K_M/manifest.json",
        "Tiny-1B-Q4_K_M/model",
        "Tiny-1B-Q4_K_M/model/tiny-1b-q4_k_m.gguf",
    ]
    registry.verify(registry.find("Tiny-1B-Q4_K_M"))


def test_what_is_there_already_is_not_fetched_again(hub: Hub) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    pulled(REPO)
    before = len(hub.downloads())
    assert pulled(REPO)["fetched"] is False
    assert len(hub.downloads()) == before


def test_a_new_commit_replaces_the_model(hub: Hub) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    pulled(REPO)
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": OTHER}, commit="f" * 40)
    facts = pulled(REPO)
    assert (facts["fetched"], Path(facts["path"]).read_bytes()) == (True, OTHER)
    assert Store.default().read(facts["name"]).revision == "f" * 40


def test_a_connection_that_breaks_is_taken_up_where_it_was(hub: Hub) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    hub.breaks, hub.break_after = 1, 150_000
    assert Path(pulled(REPO)["path"]).read_bytes() == MODEL
    first, second = hub.downloads()
    assert first == ""
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 150_000


def test_the_next_command_takes_up_what_a_broken_one_left(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    hub.breaks, hub.break_after = 4, 70_000
    assert "takes up what has arrived" in refused(1, REPO)
    assert Store.default().names() == []
    kept = next((tmp_path / "home/models/.pulls").rglob("*.incomplete")).stat().st_size
    assert kept > 0
    before = len(hub.downloads())
    assert Path(pulled(REPO)["path"]).read_bytes() == MODEL
    assert hub.downloads()[before:] == [f"bytes={kept}-"]
    assert not (tmp_path / "home/models/.pulls").exists()


def left_of_a_broken_pull(hub: Hub, home: Path) -> Path:
    """The file of what has arrived, of a pull of MODEL that broke off for good."""
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    hub.breaks, hub.break_after = 4, 70_000
    refused(1, REPO)
    return next((home / "models/.pulls").rglob("*.incomplete"))


def test_what_arrived_is_not_trusted_for_having_arrived(hub: Hub, tmp_path: Path) -> None:
    begun = left_of_a_broken_pull(hub, tmp_path / "home")
    begun.write_bytes(b"x" + begun.read_bytes()[1:])
    assert "its SHA-256 is another" in refused(1, REPO)
    assert everything(tmp_path / "home") == []
    assert Path(pulled(REPO)["path"]).read_bytes() == MODEL


def test_more_than_the_whole_file_is_thrown_away_and_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    """No server has a part that begins there."""
    begun = left_of_a_broken_pull(hub, tmp_path / "home")
    begun.write_bytes(MODEL + b"and more")
    before = len(hub.downloads())
    assert Path(pulled(REPO)["path"]).read_bytes() == MODEL
    assert hub.downloads()[before:] == [f"bytes={len(MODEL) + 8}-", ""]


def test_a_file_that_had_arrived_whole_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    """Killed between the last byte and the rename."""
    begun = left_of_a_broken_pull(hub, tmp_path / "home")
    begun.write_bytes(MODEL)
    before = len(hub.downloads())
    assert Path(pulled(REPO)["path"]).read_bytes() == MODEL
    assert hub.downloads()[before:] == []


def test_a_server_that_knows_no_ranges_sends_it_all_again(hub: Hub, tmp_path: Path) -> None:
    left_of_a_broken_pull(hub, tmp_path / "home")
    hub.ranges = False
    assert Path(pulled(REPO)["path"]).read_bytes() == MODEL


def test_the_token_goes_to_the_hub_and_not_where_it_leads(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    hub.breaks, hub.break_after = 1, 150_000
    pulled(REPO)
    assert set(hub.tokens) == {"Bearer hf_secret"}
    assert hub.cdn_tokens == ["", ""]


def test_a_repository_that_moved_is_followed(hub: Hub) -> None:
    hub.repositories["new/Name-GGUF"] = Repository({"README.md": b"# hi", "tiny.Q8_0.gguf": MODEL})
    hub.repositories["new/Weights"] = Repository(CHECKPOINT)
    hub.renamed = {REPO: "new/Name-GGUF", "old/Weights": "new/Weights"}
    assert Path(pulled(REPO)["path"]).read_bytes() == MODEL
    assert {file.name for file in Path(pulled("old/Weights")["path"]).iterdir()} == set(CHECKPOINT)


def test_a_large_file_comes_by_plain_http_where_the_hub_offers_another_way_too(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a command: huggingface_hub reads which ways are allowed when it is imported."""
    pytest.importorskip("hf_xet")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    left_of_a_broken_pull(hub, tmp_path / "home")
    hub.xet = True
    command = [sys.executable, "-m", "toolace_edge", "models", "pull", REPO, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["path"]).read_bytes() == MODEL
    assert not [path for _, path, _ in hub.requests if "xet" in path]
    assert hub.downloads()[-1].startswith("bytes=")
    assert set(hub.cdn_tokens) == {""}


def test_a_hub_that_does_not_say_what_a_file_is_gets_a_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    hub.etags = False
    assert f"{REPO} cannot be fetched" in refused(1, REPO)
    assert Store.default().names() == []


def test_wrong_bytes_leave_nothing_behind(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    hub.corrupt = "tiny.Q8_0.gguf"
    assert "its SHA-256 is another" in refused(1, REPO)
    assert everything(tmp_path / "home") == []


def test_a_file_of_another_size_leaves_nothing_behind(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    hub.short = "tiny.Q8_0.gguf"
    assert "its size is another" in refused(1, REPO)
    assert everything(tmp_path / "home") == []


def test_wrong_bytes_in_a_small_file_are_found_by_gits_hash(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["a/b"] = Repository({"config.json": b'{"a": 1}', "model.safetensors": b"weights"})
    hub.corrupt = "config.json"
    assert "its git hash is another" in refused(1, "a/b")
    assert everything(tmp_path / "home") == []


def test_a_hostile_file_is_refused_though_its_hash_is_right(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": gguf(data=100)})
    assert "reaches past the end" in refused(1, REPO)
    assert everything(tmp_path / "home") == []


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_offline_opens_no_connection_and_says_what_is_missing(
    hub: Hub, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*args: Any) -> None:
        raise AssertionError("a socket was connected")

    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    monkeypatch.setattr(socket.socket, "connect", no_socket)
    if how == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refused(1, f"{REPO}:Q8_0", *(["--offline"] if how == "flag" else []))
    assert f"{REPO}:Q8_0 is not in the store" in message
    assert hub.requests == []


def test_offline_what_is_in_the_store_is_enough(hub: Hub) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    pulled(REPO)
    seen = len(hub.requests)
    assert pulled(f"{REPO}:Q8_0", "--offline")["fetched"] is False
    assert "is not in the store" in refused(1, f"{REPO}:Q4_0", "--offline")
    assert len(hub.requests) == seen


CHECKPOINT = {
    "config.json": b'{"model_type": "llama", "max_position_embeddings": 4096}',
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model-00001-of-00002.safetensors": b"first",
    "model-00002-of-00002.safetensors": b"second",
    "model.safetensors.index.json": b"{}",
}
LEFT_OUT = {
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"import os",
    "training_args.bin": b"pickle",
    "consolidated.safetensors": b"the same again",
    "original/consolidated.00.pth": b"pickle",
    ".gitattributes": b"",
}


def test_a_repository_of_safetensors_becomes_a_checkpoint_to_convert(hub: Hub) -> None:
    repo = "Team-ACE/ToolACE-2-Llama-3.1-8B"
    hub.repositories[repo] = Repository({**CHECKPOINT, **LEFT_OUT}, {"license": "apache-2.0"})
    result = pull("ToolACE-2-Llama-3.1-8B")  # by its name in the catalogue
    assert result.exit_code == 0, result.stderr
    entry = registry.find("ToolACE-2-Llama-3.1-8B")
    assert "toolace-edge convert gguf" in result.stdout
    assert str(entry.path) in result.stdout
    assert {file.name for file in entry.path.iterdir()} == set(CHECKPOINT)
    assert entry.manifest is not None
    assert (entry.kind, entry.manifest.format, entry.manifest.licence) == ("checkpoint", "toolace", "apache-2.0")
    message = CliRunner().invoke(cli, ["run", "hello", "--model", entry.name]).stderr
    assert "which no engine runs" in message
    assert "--kind Q8_0 --format toolace" in message


def test_a_model_folder_of_ours_is_pulled_as_it_runs(hub: Hub) -> None:
    from .test_store import onnx_files

    hub.repositories["a/mine"] = Repository({**onnx_files(), "README.md": b"card", "evil.py": b""})
    facts = pulled("a/mine")
    assert (facts["name"], facts["kind"], facts["format"]) == ("mine", "onnx", "compact")
    assert {file.name for file in Path(facts["path"]).iterdir()} == {*onnx_files(), "README.md"}


def two_precisions() -> dict[str, bytes]:
    """A repository with the same model twice, each in a folder of its own."""
    from .test_store import onnx_files

    named = {folder: onnx_files(precision=folder) for folder in ("int8", "int4")}
    return {f"{folder}/{name}": content for folder, files in named.items() for name, content in files.items()}


def test_another_precision_under_a_name_that_is_taken_is_not_here_already(hub: Hub) -> None:
    hub.repositories["a/mine"] = Repository(two_precisions())
    pulled("a/mine:int8", "--name", "small")
    assert pulled("a/mine:int8", "--name", "small")["fetched"] is False
    assert "is in the store already" in refused(2, "a/mine:int4", "--name", "small")
    assert read_facts(registry.find("small").path)["precision"] == "int8"


def test_offline_a_model_is_named_as_it_is_online(hub: Hub) -> None:
    hub.repositories["a/mine"] = Repository(two_precisions())
    hub.repositories[REPO] = Repository({"sub/tiny-f16.gguf": MODEL, "tiny-Q8_0.gguf": OTHER})
    names = {wanted: pulled(wanted)["name"] for wanted in ("a/mine:int8", "a/mine:int4", f"{REPO}:FP16")}
    names[f"{REPO}:sub/tiny-f16.gguf"] = names[f"{REPO}:F16"] = names[REPO] = names[f"{REPO}:FP16"]
    seen = len(hub.requests)
    for wanted, name in names.items():
        assert pulled(wanted, "--offline")["name"] == name
    for wanted in ("a/mine", "a/mine:onnx"):
        assert "is in the store as mine-int4, mine-int8" in refused(2, wanted, "--offline")
        assert pulled(wanted, "--offline", "--name", "mine-int8")["name"] == "mine-int8"
    assert "is in the store as mine-int4, not as other" in refused(2, "a/mine:int4", "--offline", "--name", "other")
    assert len(hub.requests) == seen


def test_a_format_that_is_given_is_noted_of_what_is_here_already(hub: Hub) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    name = pulled(REPO)["name"]
    for options in (("--format", "hermes"), ("--format", "toolace", "--offline")):
        facts = pulled(REPO, *options)
        assert (facts["fetched"], facts["format"]) == (False, options[1])
        assert Store.default().read(name).format == options[1]
        assert pulled(REPO)["format"] == options[1]


def test_an_address_to_clone_is_an_address(hub: Hub) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    assert pulled(f"https://huggingface.co/{REPO}.git")["name"] == "Tiny-1B-Q8_0"


@pytest.mark.parametrize("reference", ["owner/a--b", "owner/repo-", "owner/repo.", "owner/" + "x" * 100])
def test_a_name_that_no_repository_has_is_a_sentence(reference: str, hub: Hub) -> None:
    assert "cannot be the name of a repository" in refused(2, reference)


def test_several_ggufs_are_listed_and_chosen_by_kind_or_file(hub: Hub) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL, "tiny.Q4_K_M.gguf": OTHER})
    message = refused(2, REPO)
    assert "tiny.Q8_0.gguf" in message
    assert f"models pull {REPO}:Q4_K_M" in message
    assert Path(pulled(f"{REPO}:q4_k_m")["path"]).read_bytes() == OTHER
    assert Path(pulled(f"hf.co/{REPO}:tiny.Q8_0.gguf")["path"]).read_bytes() == MODEL
    assert Store.default().names() == ["Tiny-1B-Q4_K_M", "Tiny-1B-Q8_0"]


@pytest.mark.parametrize(
    ("repository", "code", "message"),
    [
        (None, 2, "There is no repository a/b"),
        (Repository({}, status=401), 1, "private or gated"),
        (Repository({}, status=403, code="GatedRepo"), 1, "private or gated"),
        (Repository({}, status=429), 1, "answered 429"),
        (Repository({}, status=503), 1, "answered 503"),
        (Repository({}), 2, "holds nothing that can be used"),
        (Repository({"pytorch_model.bin": b"", "config.json": b"{}"}), 2, "pickles"),
    ],
)
def test_what_cannot_be_had_is_a_sentence(
    hub: Hub, tmp_path: Path, repository: Repository | None, code: int, message: str
) -> None:
    if repository is not None:
        hub.repositories["a/b"] = repository
    assert message in refused(code, "a/b")
    assert everything(tmp_path / "home") == []


def test_an_unknown_revision_is_a_sentence(hub: Hub) -> None:
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    assert "has no revision 'v9'" in refused(2, REPO, "--revision", "v9")


def test_a_hub_that_is_not_there_is_a_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert f"{REPO} cannot be fetched" in refused(1, REPO)


def test_names_that_lead_out_of_the_folder_are_never_written(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository({"../../evil.Q8_0.gguf": MODEL, "/tmp/evil.Q4_0.gguf": MODEL})
    assert "holds nothing that can be used" in refused(2, REPO)
    assert everything(tmp_path / "home") == []


def test_a_name_that_is_another_models_is_not_overwritten(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(OTHER)
    Store.default().add(tmp_path / "x.gguf", name="Tiny-1B-Q8_0")
    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    assert "is in the store already" in refused(2, REPO)
    assert "came with the program" in refused(2, REPO, "--name", "nano")
    assert pulled(REPO, "--name", "tiny")["name"] == "tiny"


def test_two_at_once_do_not_share_a_download(hub: Hub, tmp_path: Path) -> None:
    import filelock

    hub.repositories[REPO] = Repository({"tiny.Q8_0.gguf": MODEL})
    hub.breaks, hub.break_after = 4, 70_000
    refused(1, REPO)
    folder = next((tmp_path / "home/models/.pulls").rglob("*.incomplete")).parents[3]
    with filelock.FileLock(str(folder.with_suffix(".lock"))):
        assert "Another process is pulling" in refused(1, REPO)
    pulled(REPO)


@pytest.mark.parametrize(
    "reference", ["", "noslash", "a/b/c", "../b", "a/..", "a/b:", "https://evil.example/a/b", "-a/b"]
)
def test_what_names_no_repository_is_refused(reference: str) -> None:
    with pytest.raises(InputError, match="does not name a repository"):
        parse_reference(reference)


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    result = pull(REPO)
    assert result.exit_code == 1
    assert "pip install 'toolace-edge[hub]'" in result.stderr
