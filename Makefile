# Needs Python 3.11 (with venv and headers), a C compiler, zlib's header and make.
# Everything else is installed into .venv. Run `make` to see the targets.

PYTHON ?= python3.11
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PYTHON_IN_VENV := $(BIN)/python

INSTALLED := $(VENV)/.installed
BUILT := build/.release
SOURCES := setup.py $(wildcard tchatd_ext/*.pyx tchatd_ext/*.pxd tchatd_ext/*.h)
CODE := tchatd tchatd_ext tests bench examples setup.py

help:
	@echo 'make build       the environment and the C extensions'
	@echo 'make run         start tchatd on 127.0.0.1:8080; ARGS="--data D --bind H:P"'
	@echo 'make test        everything: format, lint, types, contracts, tests, sanitizers'
	@echo 'make test-fast   format, lint, types, and the tests without services'
	@echo 'make lint        format, lint, types, import contracts'
	@echo 'make bench       measure, each figure against its baseline; ARGS="NAME…"'
	@echo 'make format      rewrite the code in its format'
	@echo 'make constraints pin the versions that are installed now'
	@echo 'make clean       forget what was built, not data and environment'

build: $(BUILT)

run: $(BUILT)
	@exec $(PYTHON_IN_VENV) -m tchatd run $(ARGS)

test: lint
	$(PYTHON_IN_VENV) -m pytest $(ARGS)
	.ci/sanitize

test-fast: lint
	$(PYTHON_IN_VENV) -m pytest -m "not service and not slow" $(ARGS)

lint: $(BUILT)
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/ruff check --quiet $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(BUILT)
	$(PYTHON_IN_VENV) -m bench $(ARGS)

format: $(INSTALLED)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

constraints: $(INSTALLED)
	@sed -n '/^#/p' constraints.txt > build/constraints.txt
	@$(BIN)/pip freeze --all | grep -viE '^(-e|pip==|tchatd)' >> build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache bench/build
	rm -f tchatd_ext/*.so tchatd_ext/*.c tchatd_ext/*.html
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

# A marker is newer than what it was made from; so a second run does nothing.
$(INSTALLED): constraints.txt
	@test -x $(PYTHON_IN_VENV) || $(PYTHON) -m venv $(VENV)
	$(PYTHON_IN_VENV) -m pip install --quiet --disable-pip-version-check -r constraints.txt
	@touch $@

$(BUILT): $(INSTALLED) $(SOURCES)
	$(PYTHON_IN_VENV) setup.py --quiet build_ext --inplace --parallel 2
	@mkdir -p $(@D)
	@touch $@

.PHONY: help build run test test-fast lint bench format constraints clean
