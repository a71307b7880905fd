# The project's commands. Each one makes what it needs; `make` alone lists them.
#
#   make test ARGS="tests/ops -k gemm"     arguments for the program behind a target
#   make demo PYTHON=python3.12            the interpreter behind .venv, 3.10 or later

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
BIN    := $(VENV)/bin

# A change here, folders included, rebuilds the compiled module; Python files are used in place.
NATIVE := CMakeLists.txt $(shell find csrc cmake 2>/dev/null)
# The build requirements of pyproject.toml: in the environment itself, so that rebuilding
# compiles only what changed and needs no network.
BUILD_REQUIRES := scikit-build-core pybind11 cmake ninja
CXX_FILES := find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench dev wheel clean distclean
.DELETE_ON_ERROR:
.NOTPARALLEL:  # two pip runs would fight over .venv

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed-plot  ## install into .venv, then train and sample a small GPT (about two minutes)
	$(BIN)/pymodel quickstart $(ARGS)

test: $(VENV)/installed-test  ## install with the test extra, then run the whole test suite
	$(BIN)/pytest -n 2 -p no:benchmark $(ARGS)

lint: $(VENV)/installed-lint  ## ruff, mypy and clang-format, changing nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(wildcard pymodel tests benchmarks)
	$(CXX_FILES) | xargs --no-run-if-empty $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/installed-lint  ## rewrite Python and C++ files the way `make lint` wants them
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(CXX_FILES) | xargs --no-run-if-empty $(BIN)/clang-format -i

bench: $(VENV)/installed-bench  ## install with the bench extra, then time the kernels against their peers
	$(BIN)/python -m benchmarks $(ARGS)

# For an environment of one's own: afterwards PYTHONPATH=. is enough. ARGS goes to CMake.
dev: $(VENV)/ready  ## build the compiled module into the source tree
	$(BIN)/cmake -G Ninja -B build/dev -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	  -DPython_EXECUTABLE=$(abspath $(BIN)/python) -Dpybind11_DIR="$$($(BIN)/pybind11-config --cmakedir)" \
	  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/pymodel -DCMAKE_EXPORT_COMPILE_COMMANDS=ON $(ARGS)
	$(BIN)/cmake --build build/dev

wheel: $(VENV)/ready  ## build a wheel into dist/
	$(BIN)/pip wheel --no-deps --no-build-isolation --wheel-dir dist .

clean:  ## remove what building left; .venv stays
	rm -rf build dist pymodel/_core*.so .mypy_cache .pytest_cache .ruff_cache
	find pymodel tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## remove .venv too
	rm -rf $(VENV)

$(VENV)/ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "pymodel needs Python 3.10 or later; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(BUILD_REQUIRES)
	touch $@

# Editable: the installed package is this folder's Python files plus the compiled module in
# .venv, wherever Python starts, so nothing here can shadow it.
$(VENV)/installed-%: $(VENV)/ready pyproject.toml
	$(BIN)/pip install --no-build-isolation --editable '.[$*]'
	touch $@

# Linting reads types but runs nothing: C++ changes are no reason to build again.
$(VENV)/installed-plot $(VENV)/installed-test $(VENV)/installed-bench: $(NATIVE)
