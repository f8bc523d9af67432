# The targets of the project; `make help` lists them. Everything is set up by the
# target that needs it, under build/.
PYTHON ?= python3.11
REAL_PYTHON := $(shell tools/find_python.sh $(PYTHON))
TAG := $(shell test -n "$(REAL_PYTHON)" && $(REAL_PYTHON) -c 'import sys; print(sys.implementation.cache_tag)')
VENV := build/venv-$(TAG)
PY := $(VENV)/bin/python
BUILD := build/$(TAG)
SANITIZED := build/sanitize-$(TAG)
THREADED := build/sanitize-threads-$(TAG)
SOURCES := $(shell find include src python cmake tests/cpp tests/sanitizers -type f -not -name '*.pyc') CMakeLists.txt pyproject.toml
CXX_FILES = $(shell find include src tests/cpp tests/sanitizers examples/cpp -name '*.h' -o -name '*.cc')
export JAX_PLATFORMS ?= cpu

.PHONY: help setup build test test-cpp test-python test-example demo bench bench-instructions \
  sanitize sanitize-threads lint format stubs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: ## make the virtual environment (PYTHON=python3.13 for another line)
	@test -n "$(REAL_PYTHON)"
	@tools/setup.sh $(REAL_PYTHON) $(VENV)

build: setup $(BUILD)/.installed ## build the library, the tests and the extension; install the wheel

# $(call install,ON or OFF for the C++ tests): installs the wheel; more options may follow.
install = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) -m pip install --quiet \
  --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
  --config-settings=cmake.define.NNX_WRAPPERS_DEV=ON \
  --config-settings=cmake.define.NNX_WRAPPERS_TESTS=$(1) \
  --config-settings=cmake.define.NNX_WRAPPERS_GTEST="$$(tools/find_gtest.sh build/gtest)" .

$(BUILD)/.installed: $(SOURCES)
	@tools/setup.sh $(REAL_PYTHON) $(VENV)
	$(call install,ON)
	@touch $@

test: test-cpp test-python test-example ## run every test

test-cpp: build ## run the C++ tests
	ctest --test-dir $(BUILD) --output-on-failure

test-python: build ## run the Python tests
	$(PY) -m pytest -n 2 tests/python

test-example: build ## build and run the C++ example against the installed package
	tools/run_example.sh $(PY) $(BUILD)/example

sanitize: setup $(SANITIZED)/.installed ## run the tests under ASan and UBSan (SANITIZE_TESTS=... for some)
	tools/sanitize.sh memory $(PY) $(SANITIZED) $(SANITIZE_TESTS)

sanitize-threads: setup $(THREADED)/.installed ## run eight threads under TSan
	tools/sanitize.sh threads $(PY) $(THREADED)

# Beside the environment, whose own package stays as it is.
install-sanitized = rm -rf $(@D)/site && $(call install,$(1)) --target $(@D)/site \
  --config-settings=build-dir=$(@D) --config-settings=cmake.build-type=Debug \
  --config-settings=cmake.define.NNX_WRAPPERS_SANITIZE=$(2)
comma := ,

$(SANITIZED)/.installed: $(SOURCES)
	@tools/setup.sh $(REAL_PYTHON) $(VENV)
	$(call install-sanitized,ON,address$(comma)undefined)
	@touch $@

$(THREADED)/.installed: $(SOURCES)
	@tools/setup.sh $(REAL_PYTHON) $(VENV)
	$(call install-sanitized,OFF,thread)
	@touch $@

demo: build ## train both ways on real digits, and move weights across
	$(PY) examples/digits.py

bench: build ## measure against native code and Flax's bridge; writes benchmarks/results
	$(PY) -m benchmarks

bench-instructions: build ## count the instructions of the hot loops; needs valgrind
	$(PY) -m benchmarks.instructions

lint: build ## check formats, clang-tidy, ruff and types; needs what `build` makes
	$(VENV)/bin/clang-format --dry-run -Werror $(CXX_FILES)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	tools/tidy.sh $(PY) $(BUILD)

format: setup ## put every source file into the project's format
	$(VENV)/bin/clang-format -i $(CXX_FILES)
	$(VENV)/bin/ruff check --fix --select I .
	$(VENV)/bin/ruff format .

stubs: build ## write the stub of the extension anew
	tools/make_stubs.sh $(PY)

clean: ## remove everything that was built
	rm -rf build
