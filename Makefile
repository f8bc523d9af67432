# The targets of the project; `make help` lists them. Everything is set up by the
# target that needs it, under build/.
PYTHON ?= python3.11
REAL_PYTHON := $(shell tools/find_python.sh $(PYTHON))
TAG := $(shell test -n "$(REAL_PYTHON)" && $(REAL_PYTHON) -c 'import sys; print(sys.implementation.cache_tag)')
VENV := build/venv-$(TAG)
PY := $(VENV)/bin/python
BUILD := build/$(TAG)
FAULTS := build/faults-$(TAG)
SANITIZED := build/sanitize-$(TAG)
THREADED := build/sanitize-threads-$(TAG)
SOURCES := $(shell find include src python cmake tests/cpp tests/faults tests/sanitizers -type f -not -name '*.pyc') CMakeLists.txt pyproject.toml
CXX_FILES = $(shell find include src tests/cpp tests/faults tests/sanitizers examples/cpp -name '*.h' -o -name '*.cc')
export JAX_PLATFORMS ?= cpu
# Tests start Python again and again: 3 seconds to import Flax, or 11 without bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup build docs test test-cpp test-python test-example test-maxtext bench-maxtext \
  maxtext-setup maxtext-pytest maxtext-timing test-ecosystem ecosystem-pytest test-processes test-versions faults fuzz sanitize sanitize-threads \
  wheels wheels-again test-wheels test-wheels-aarch64 demo bench bench-instructions lint lint-quick format stubs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: ## make the virtual environment (PYTHON=python3.13 for another line)
	@test -n "$(REAL_PYTHON)"
	@tools/setup.sh $(REAL_PYTHON) $(VENV)

build: setup $(BUILD)/.installed ## build the library, the tests and the extension; install the wheel

# $(call build_wheel,ON or OFF for the C++ tests): beside the target; more options may follow.
build_wheel = rm -rf $(@D)/wheel && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) -m pip wheel \
  --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir $(@D)/wheel . \
  --config-settings=cmake.define.NNX_WRAPPERS_DEV=ON \
  --config-settings=cmake.define.NNX_WRAPPERS_TESTS=$(1) \
  --config-settings=cmake.define.NNX_WRAPPERS_GTEST="$$(tools/find_gtest.sh build/gtest)"

# $(call install_wheel,PYTHON,build folder); more options may follow.
install_wheel = $(1) -m pip install --quiet --disable-pip-version-check --no-deps \
  --force-reinstall $(2)/wheel/*.whl

$(BUILD)/.installed: $(SOURCES)
	@tools/setup.sh $(REAL_PYTHON) $(VENV)
	$(call build_wheel,ON)
	$(call install_wheel,$(PY),$(BUILD))
	@touch $@

test: test-cpp test-python test-example ## run every test

test-cpp: build ## run the C++ tests
	ctest --test-dir $(BUILD) -j 2 --output-on-failure

SHARE ?= 1/1
TESTS ?= tests/python
test-python: build ## run the Python tests; SHARE=1/2 for half of the layers' catalogues, TESTS for some
	$(PY) -m pytest -n 2 --dist worksteal --share $(SHARE) $(TESTS)

test-example: build ## build and run the C++ example against the installed package
	tools/run_example.sh $(PY) $(BUILD)/example

# MaxText wants Python 3.12 or later; its environment is its own.
MAXTEXT_LINE ?= python3.13
MAXTEXT_VENV := build/venv-maxtext-$(TAG)
on_maxtext_line = @$(MAKE) --no-print-directory PYTHON=$(MAXTEXT_LINE)
test-maxtext: ## train MaxText upstream and ours; MAXTEXT_TESTS="-m short" for a part
	$(on_maxtext_line) maxtext-pytest

bench-maxtext: ## time MaxText's train step upstream and ours
	$(on_maxtext_line) maxtext-timing

maxtext-setup: build
	@tools/setup.sh $(REAL_PYTHON) $(MAXTEXT_VENV) tests/maxtext/requirements.txt
	@$(call install_wheel,$(MAXTEXT_VENV)/bin/python,$(BUILD))

maxtext-pytest: maxtext-setup
	$(MAXTEXT_VENV)/bin/python -m pytest tests/maxtext $(MAXTEXT_TESTS)

maxtext-timing: maxtext-setup
	$(MAXTEXT_VENV)/bin/python tests/maxtext/timing.py

# Libraries that take or export wrapped modules, in an environment of their own.
ECOSYSTEM_VENV := build/venv-ecosystem-$(TAG)
test-ecosystem: ## run programs of six libraries on either bridge; ECOSYSTEM_TESTS="-m short" for a part
	$(on_maxtext_line) ecosystem-pytest

ecosystem-pytest: build
	@tools/setup.sh $(REAL_PYTHON) $(ECOSYSTEM_VENV) tests/ecosystem/requirements.txt
	@$(call install_wheel,$(ECOSYSTEM_VENV)/bin/python,$(BUILD))
	$(ECOSYSTEM_VENV)/bin/python tests/ecosystem/run.py $(ECOSYSTEM_TESTS)

test-processes: build ## train on two processes and on one; PROCESSES_TESTS="-m short" for a part
	$(PY) -m pytest -c tests/processes/pytest.ini tests/processes $(PROCESSES_TESTS)

# For each target. What was found goes to tests/fuzz/corpus, to be committed.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= both_ways inverses conflicts graphs
fuzz: build ## look for inputs that break the conversions; FUZZ_SECONDS=60 for each target
	for target in $(FUZZ_TARGETS); do \
	  $(PY) tests/fuzz/fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) -max_len=2048 || exit 1; \
	done

sanitize: setup $(SANITIZED)/.installed ## run the tests under ASan and UBSan (SANITIZE_TESTS=... for some)
	tools/sanitize.sh memory $(PY) $(SANITIZED) $(SANITIZE_TESTS)

sanitize-threads: setup $(THREADED)/.installed ## run eight threads under TSan
	tools/sanitize.sh threads $(PY) $(THREADED)

faults: setup $(FAULTS)/.installed ## make calls into Python fail; NNX_WRAPPERS_LONG=1 for each
	PYTHONPATH=$(CURDIR)/$(FAULTS)/site $(PY) -m pytest tests/python/robustness/test_faults.py

# Beside the environment, whose own package stays as it is.
# $(call install_beside,ON or OFF for the C++ tests,more options)
install_beside = $(call build_wheel,$(1)) --config-settings=build-dir=$(@D) $(2) && \
  rm -rf $(@D)/site && $(call install_wheel,$(PY),$(@D)) --target $(@D)/site
sanitized = --config-settings=cmake.build-type=Debug \
  --config-settings=cmake.define.NNX_WRAPPERS_SANITIZE=$(1)
comma := ,

$(FAULTS)/.installed: $(SOURCES)
	@tools/setup.sh $(REAL_PYTHON) $(VENV)
	$(call install_beside,OFF,--config-settings=cmake.define.NNX_WRAPPERS_FAULTS=ON)
	@touch $@

$(SANITIZED)/.installed: $(SOURCES)
	@tools/setup.sh $(REAL_PYTHON) $(VENV)
	$(call install_beside,ON,$(call sanitized,address$(comma)undefined))
	@touch $@

$(THREADED)/.installed: $(SOURCES)
	@tools/setup.sh $(REAL_PYTHON) $(VENV)
	$(call install_beside,OFF,$(call sanitized,thread))
	@touch $@

# Sphinx reads the reference from the installed package; its environment is its own.
DOCS_VENV := build/venv-docs-$(TAG)
docs: build ## make the site of the documentation in build/docs; a broken link is an error
	@tools/setup.sh $(REAL_PYTHON) $(DOCS_VENV) docs/requirements.txt
	@$(call install_wheel,$(DOCS_VENV)/bin/python,$(BUILD))
	rm -rf build/docs
	$(DOCS_VENV)/bin/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet \
	  -d build/docs-cache docs build/docs

# Environments of their own, under build/versions; a run writes its rows of docs/reference/versions.md.
VERSIONS_LINES := python3.11 python3.13
test-versions: ## try each pair of Flax and JAX; VERSIONS="--short" or "--pair 0.12.1/0.8.1" for some
	@for line in $(VERSIONS_LINES); do $(MAKE) --no-print-directory build PYTHON=$$line || exit 1; done
	$(PY) tests/versions/run.py $(VERSIONS)

# From the commit that is checked out. Each line of Python needs an interpreter with headers.
WHEELS := build/wheels
WHEEL_LINES ?= python3.11 python3.12 python3.13
WHEEL_PLATFORMS ?= manylinux_2_17_x86_64 manylinux_2_17_aarch64
wheels: ## make an sdist and wheels for each line of Python and platform, and check them
	tools/wheels/make.sh $(WHEELS) "$(WHEEL_LINES)" "$(WHEEL_PLATFORMS)"

wheels-again: ## make the first of the wheels once more, elsewhere: the same bytes
	tools/wheels/reproduce.sh $(WHEELS) $(firstword $(WHEEL_LINES)) $(firstword $(WHEEL_PLATFORMS))

test-wheels: ## test the wheels of this machine as users get them; WHEEL_LINES=python3.13 for one
	for line in $(WHEEL_LINES); do WHEEL_OTHERS="$(WHEEL_OTHERS)" \
	  tools/wheels/test.sh "$$(tools/find_python.sh $$line)" $(WHEELS)/dist || exit 1; \
	done

test-wheels-aarch64: ## run the wheel for aarch64 and Python 3.11 on an x86_64 machine, by QEMU
	tools/wheels/test_aarch64.sh "$$(tools/find_python.sh python3.11)" $(WHEELS)/dist

demo: build ## train both ways on real digits, and move weights across
	$(PY) examples/digits.py

bench: build ## measure against native code and Flax's bridge; writes benchmarks/results
	$(PY) -m benchmarks

bench-instructions: build ## count the instructions of the hot loops; needs valgrind
	$(PY) -m benchmarks.instructions

lint-quick: setup ## the part of lint that needs no build: formats, ruff and types
	$(VENV)/bin/clang-format --dry-run -Werror $(CXX_FILES)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lint: build lint-quick ## check formats, ruff, types and clang-tidy; needs what `build` makes
	tools/tidy.sh $(PY) $(BUILD)

format: setup ## put every source file into the project's format
	$(VENV)/bin/clang-format -i $(CXX_FILES)
	$(VENV)/bin/ruff check --fix --select I .
	$(VENV)/bin/ruff format .

stubs: build ## write the stub of the extension and the C++ reference anew
	tools/make_stubs.sh $(PY)
	$(PY) tools/make_cpp_reference.py

clean: ## remove everything that was built
	rm -rf build
