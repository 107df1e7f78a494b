"""Which files of a repository make a model: by name alone, and never a pickle or a program."""

from __future__ import annotations

import pytest

from toolace_edge.catalogue import CATALOGUE, known
from toolace_edge.errors import InputError
from toolace_edge.formats import NAMES
from toolace_edge.hub_files import Choice, HubFile, choose, quantization_of
from toolace_edge.pull import parse_reference


def pick(*paths: str, wanted: str | None = None) -> Choice:
    return choose("a/b", [HubFile(path, 1) for path in paths], wanted)


def names(choice: Choice) -> set[str]:
    return {file.path for file in choice.files}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("toolace-8b-q4_k_m.gguf", "Q4_K_M"),  # as gguf-my-repo writes it
        ("toolace-8b_q8_0.gguf", "Q8_0"),
        ("ToolACE-2-Llama-3.1-8B.Q6_K.gguf", "Q6_K"),  # mradermacher
        ("AceGPT-v2-8B.i1-IQ3_XXS.gguf", "IQ3_XXS"),
        ("c4ai-command-r-v01-IQ4_NL.gguf", "IQ4_NL"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),  # unsloth
        ("model-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("ggml-model-f16.gguf", "F16"),
        ("x-fp32.gguf", "F32"),
        ("x-bf16.gguf", "BF16"),
        ("sub/x-Q5_1.gguf", "Q5_1"),
        ("gpt-oss-MXFP4.gguf", "MXFP4"),
        ("Llama-3.1-8B.gguf", None),
        ("Q8_0-model.gguf", None),
        ("faq4_0.gguf", None),
    ],
)
def test_the_kind_is_at_the_end_of_a_name(path: str, kind: str | None) -> None:
    assert quantization_of(path) == kind


def test_the_only_gguf_is_chosen_whatever_lies_around_it() -> None:
    choice = pick("README.md", "x-Q8_0.gguf", "mmproj-x-F16.gguf", "imatrix.gguf", "model.safetensors", "config.json")
    assert (choice.kind, choice.quantization, names(choice)) == ("gguf", "Q8_0", {"x-Q8_0.gguf"})


def test_a_checkpoint_can_be_asked_for_beside_a_gguf() -> None:
    choice = pick("x-Q8_0.gguf", "model.safetensors", "config.json", wanted="checkpoint")
    assert (choice.kind, names(choice)) == ("checkpoint", {"model.safetensors", "config.json"})


def test_a_kind_is_found_however_it_is_written() -> None:
    files = ("x-Q8_0.gguf", "x-F16.gguf", "sub/x-q4_k_m.gguf")
    assert [names(pick(*files, wanted=kind)) for kind in ("fp16", "q8_0", "Q4_K_M", "sub/x-q4_k_m.gguf")] == [
        {"x-F16.gguf"},
        {"x-Q8_0.gguf"},
        {"sub/x-q4_k_m.gguf"},
        {"sub/x-q4_k_m.gguf"},
    ]


def test_an_adapter_is_a_checkpoint_too() -> None:
    choice = pick("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
    assert names(choice) == {"adapter_config.json", "adapter_model.safetensors"}


def test_a_folder_of_ours_is_found_below_the_top() -> None:
    files = ("int8/model.onnx", "int8/tokenizer.json", "int8/toolace.json", "int8/run.py", "int8/old/model.onnx")
    choice = pick(*files, "fp32/model.onnx")
    assert (choice.kind, choice.folder, names(choice)) == ("onnx", "int8", set(files[:3]))


def test_a_kind_that_two_files_have_is_ambiguous() -> None:
    with pytest.raises(InputError, match="2 models that 'q8_0' names") as caught:
        pick("a-Q8_0.gguf", "b-Q8_0.gguf", wanted="q8_0")
    assert caught.value.hint.endswith("a/b:a-Q8_0.gguf")


def test_a_kind_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(InputError, match=r"has no 'Q4_0'.*x-Q8_0\.gguf"):
        pick("x-Q8_0.gguf", wanted="Q4_0")


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (["pytorch_model.bin", "config.json"], "pickles"),
        (["x-Q8_0-00001-of-00002.gguf", "x-Q8_0-00002-of-00002.gguf"], "split into parts"),
        (["onnx/model.onnx", "config.json"], "not written by `toolace-edge convert onnx`"),
        (["model.safetensors"], "no safetensors with a config.json"),
        (["original/model.safetensors", "original/config.json"], "no safetensors with a config.json"),
    ],
)
def test_why_nothing_can_be_used_is_said(paths: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        pick(*paths)


def test_the_catalogue_holds_what_can_be_pulled_and_run() -> None:
    repos = [entry.repo for entry in CATALOGUE]
    assert len(repos) == len({repo.lower() for repo in repos})
    for entry in CATALOGUE:
        assert parse_reference(entry.repo) == (entry.repo, None)
        assert entry.format in NAMES
        assert entry.of is None or entry.of in repos


def test_the_last_part_of_a_listed_name_is_enough() -> None:
    assert parse_reference("toolace-8b:Q8_0") == ("Team-ACE/ToolACE-8B", "Q8_0")
    assert parse_reference("https://huggingface.co/a/b") == ("a/b", None)
    assert known("nobody/ToolACE-8B") is None


def test_a_file_that_no_engine_would_open_is_not_offered() -> None:
    assert names(pick("x-Q8_0.gguf", "x-Q4_0.GGUF")) == {"x-Q8_0.gguf"}
    with pytest.raises(InputError, match="rename it"):
        pick("x-Q4_0.GGUF", "README.md")
