# From a bare machine with Python >= 3.10: `make demo` or `make test`. Each sets
# up .venv first (once; again when pyproject.toml, constraints.txt or the version change).
#
#   TORCH        which build of torch to install, as pip understands it: a version,
#                a local version such as torch==2.13.0+cpu, or a path to a wheel
#   PIP_ARGS     extra arguments for every pip call, for example the index that
#                holds that build:  make test TORCH=torch==2.13.0+cpu PIP_ARGS='--extra-index-url …'
#   EXTRAS       the package's extras that .venv gets; CI adds those that only some tests need
#   PYTHON       the interpreter that .venv is made with
#   WORKERS      processes that share the tests: `logical`, one for each CPU, or a number; 0 for none
#   PYTEST_ARGS  extra arguments for pytest; `make test PYTEST_ARGS="-m ''"` runs the slow tests too
#
# Another TORCH for an existing .venv: `make clean-venv` first.

TORCH ?= torch==2.13.0
PIP_ARGS ?=
EXTRAS ?= gguf,remote,dev
PYTHON ?= python3
WORKERS ?= logical
PYTEST_ARGS ?=

SHELL := bash
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
COMMA := ,
READY := .venv/.ready-$(subst $(COMMA),-,$(EXTRAS))

DOCS_READY := .venv/.ready-docs

.PHONY: help demo docs test test-cpus lint types format wheel clean clean-venv
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## compare four agents on one task, from two starting students, three seeds: a few minutes
	$(BIN)/read-env compare --preset micro-demo --agents pretrained:micro read-bandit task-static water-filling --students even shopkeeper

docs: $(DOCS_READY) ## the documentation, in build/docs/index.html; a warning or a link that leads nowhere is an error
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going -b html -d build/doctrees docs build/docs

test: $(READY) ## the tests without the slow ones (aims at 6 minutes on 2 cores)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# Processors differ in the last digits of a sum, and learning amplifies them. `make test` is for this processor; numpy and
# torch take these variables on x86-64 to compute as older ones. numpy 2.4 and earlier ones name the instructions differently.
LEARNING := tests/agents tests/envs tests/losses tests/distillation/student $(wildcard tests/distillation/test_*.py)
LEARNING_TEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --ignore tests/envs/test_rllib.py $(LEARNING)
NO_AVX512 := X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR
test-cpus: $(READY) ## on x86-64, the tests of learning with the instructions of two older kinds of CPU
ifeq ($(shell uname -m),x86_64)
	NPY_DISABLE_CPU_FEATURES="$(NO_AVX512)" ATEN_CPU_CAPABILITY=avx2 $(LEARNING_TEST)
	ATEN_CPU_CAPABILITY=default $(LEARNING_TEST)
endif

lint: $(READY) ## ruff: formatting and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(READY) ## ruff: format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# mypy can't follow the editable install to read_env.agents and read_env.envs, so
# it reads an installed copy; sed turns the paths back into those of this tree.
types: $(READY) ## mypy over an installed copy of the package
	rm -rf build/lib build/types
	$(PIP) install --quiet --no-deps --no-build-isolation --target build/types .
	set -o pipefail; cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml \
	  --cache-dir ../../.mypy_cache --package read_env | sed -E 's#^read_env/(agents|envs)/#\1/#'

wheel: $(READY) ## the wheel and the source archive, in dist/
	rm -rf build/lib dist
	$(BIN)/python -m build --no-isolation

clean: ## everything that was built, but not .venv
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

clean-venv: ## .venv itself
	rm -rf .venv

# torch comes before everything else, and is then pinned to whatever came: no
# later requirement can exchange the chosen build for the default one.
$(READY): pyproject.toml constraints.txt read_env/__init__.py
	$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	grep -v '^torch==' constraints.txt > .venv/constraints.txt
	$(PIP) install $(PIP_ARGS) -c .venv/constraints.txt 'pip>=23.1' setuptools
	$(PIP) install $(PIP_ARGS) -c .venv/constraints.txt '$(TORCH)'
	$(PIP) list --format=freeze | grep '^torch==' >> .venv/constraints.txt
	rm -rf read_env.egg-info  # of an earlier version, it would be found before the installed metadata
	$(PIP) install $(PIP_ARGS) -c .venv/constraints.txt --no-build-isolation --editable '.[$(EXTRAS)]'
	touch $@

$(DOCS_READY): $(READY)
	$(PIP) install $(PIP_ARGS) -c .venv/constraints.txt --no-build-isolation --editable '.[$(EXTRAS),docs]'
	touch $@
