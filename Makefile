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
CONFIGURE = $(BIN)/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
  -DPython_EXECUTABLE=$(abspath $(BIN)/python) -Dpybind11_DIR="$$($(BIN)/pybind11-config --cmakedir)"
CXX_FILES := find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'

.DEFAULT_GOAL := help
.PHONY: help demo test sanitize cuda gpu-check lint format bench dev wheel clean distclean
.DELETE_ON_ERROR:
.NOTPARALLEL:  # two pip runs would fight over .venv

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed-plot  ## install into .venv, then train and sample a small GPT (about two minutes)
	$(BIN)/pymodel quickstart $(ARGS)

test: $(VENV)/installed-test  ## install with the test extra, then run the whole test suite
	$(BIN)/pytest -n 2 -p no:benchmark $(ARGS)

# The compiled module comes from a build of its own, with the sanitizers and the generic CPU
# kernels; leaks are what Python keeps until it ends.
sanitize: $(VENV)/installed-test  ## run the CUDA kernels on the emulator under AddressSanitizer and UBSan
	$(CONFIGURE) -B build/sanitize -DPYMODEL_SIMT=ON -DPYMODEL_CUDA=OFF -DPYMODEL_SANITIZE=ON -DPYMODEL_WERROR=OFF \
	  -DPYMODEL_GENERIC_ONLY=ON -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/build/sanitize/package/pymodel
	mkdir -p build/sanitize/package && cp -r pymodel tests/simt/sitecustomize.py build/sanitize/package/
	rm -f build/sanitize/package/pymodel/_core*.so
	$(BIN)/cmake --build build/sanitize
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  PYTHONPATH=build/sanitize/package $(BIN)/pytest -n 2 -p no:benchmark --device simt tests/ops $(ARGS)

cuda: $(VENV)/ready  ## compile every CUDA kernel (needs nvcc, no GPU) and report registers and spills
	$(CONFIGURE) -B build/cuda -DPYMODEL_CUDA=ON -DPYMODEL_CUDA_REPORT=ON
	$(BIN)/cmake --build build/cuda --clean-first --target cuda_kernels >build/cuda/build.log \
	  || { cat build/cuda/build.log; exit 1; }
	$(BIN)/python cmake/kernel_report.py build/cuda/build.log

# No network is needed: PYTHON's own packages (torch among them) and the CUDA toolkit do. Only the
# kernels of the GPU at hand are compiled.
gpu-check:  ## on a machine with an NVIDIA GPU: build, test, sanitize and time against torch, in ten minutes
	cmake -B build/gpu -DCMAKE_BUILD_TYPE=Release -DPYMODEL_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native \
	  -DPython_EXECUTABLE="$$(command -v $(PYTHON))" -Dpybind11_DIR="$$($(PYTHON) -m pybind11 --cmakedir)" \
	  -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/pymodel
	cmake --build build/gpu --parallel
	PYTHONPATH=. $(PYTHON) -m benchmarks.gpu $(ARGS)

lint: $(VENV)/installed-lint  ## ruff, mypy and clang-format, changing nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(wildcard pymodel tests benchmarks)
	$(CXX_FILES) | xargs --no-run-if-empty $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/installed-lint  ## rewrite Python and C++ files the way `make lint` wants them
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(CXX_FILES) | xargs --no-run-if-empty $(BIN)/clang-format -i

# All of it, its figures kept; with ARGS what they say.
bench: $(VENV)/installed-bench  ## install with the bench extra, then time everything against its peers (a quarter of an hour)
	$(BIN)/pymodel bench $(or $(ARGS),--json benchmarks/results)

# For an environment of one's own: afterwards PYTHONPATH=. is enough. ARGS goes to CMake.
dev: $(VENV)/ready  ## build the compiled module into the source tree
	$(CONFIGURE) -B build/dev -DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$(CURDIR)/pymodel \
	  -DCMAKE_EXPORT_COMPILE_COMMANDS=ON $(ARGS)
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
	$(BIN)/pip install --no-build-isolation --editable '.[$*]' $(NATIVE_OPTIONS)
	touch $@

# Tests run the CUDA kernels too, on the emulator, which nobody else needs to wait for. Once there,
# it stays: every target shares the one compiled module of .venv.
NATIVE_OPTIONS = --config-settings=cmake.define.PYMODEL_SIMT=$(if $(wildcard $(VENV)/installed-test),ON,OFF)
$(VENV)/installed-test: NATIVE_OPTIONS = --config-settings=cmake.define.PYMODEL_SIMT=ON

# Linting reads types but runs nothing: C++ changes are no reason to build again.
$(VENV)/installed-plot $(VENV)/installed-test $(VENV)/installed-bench: $(NATIVE)
