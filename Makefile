# Two commands are enough on a fresh machine: `make demo` and `make test`. Each does what it needs first.
PYTHON ?= python3
VENV ?= .venv
# with a GPU: make setup CONSTRAINTS=    (constraints.txt pins the release that has a CPU build)
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
STAMP := $(VENV)/.stablelit-installed

.PHONY: setup demo test test-all test-notebooks lint bench soak fuzz docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'stablelit needs Python 3.10 or later; make PYTHON=... names another')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m stablelit.train +experiment=jets

test: $(STAMP)
	$(BIN)/python -m pytest

test-all: $(STAMP)
	$(BIN)/python -m pytest -m 'not gpu and not soak'

test-notebooks: $(STAMP)
	$(BIN)/python -m pytest tests/notebooks -m ''

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	for name in $$(ls benchmarks | sed -n 's/^\([a-z]*\)\.py$$/\1/p' | grep -v -e rows -e timing); do \
	    $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.memory_growth
	$(BIN)/python -m benchmarks.callback_costs

# kills runs of every family at any moment, resumes them, and compares all that they leave with an unharmed run
soak: $(STAMP)
	$(BIN)/python -m tests.soak --kills 25
	$(BIN)/python -m pytest -m soak

# mutated inputs for everything that is read
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --target all --inputs 10000

# the README and docs/ as pages under build/site; a link that leads nowhere is an error
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
