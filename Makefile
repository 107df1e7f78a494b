# `make venv` once, then any of the others.
VENV ?= .venv
BIN := $(VENV)/bin
# Only what is needed of llama.cpp, and compiled so that it survives CPUs with AMX.
LLAMA_CPP := -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/.ci/llama_cpp.cmake

.PHONY: venv test fast lint format docs bench clean

venv: $(BIN)/pytest

$(BIN)/pytest:
	python3 -m venv $(VENV)
	CMAKE_ARGS="$(LLAMA_CPP)" $(BIN)/pip install -e '.[test]'

test: venv                     ## every test
	$(BIN)/python -m pytest

fast: venv                     ## the tests that need no model and no heavy library: seconds
	$(BIN)/python -m pytest -m 'not slow'

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: venv                     ## docs/cli.md from the commands' own help
	$(BIN)/python -m tests.cli_page > docs/cli.md

bench: venv
	$(BIN)/toolace-edge bench

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
