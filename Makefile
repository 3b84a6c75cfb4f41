# Every target sets up what it needs on a machine that has only Python 3.11-3.13, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity/bin
DEMO_GAMES ?= 200
GAMES_FOLDER ?= official

.PHONY: setup demo test check parity record-walks bench bench-alfworld clean

setup: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train]'
	touch $@

demo: setup  ## three experts and the random agent on unseen builtin games, then one game played visibly
	$(BIN)/agentgym-prm eval --agent random walkthrough planner handcoded --split valid_unseen --episodes $(DEMO_GAMES)
	$(BIN)/agentgym-prm play --agent handcoded --split valid_unseen --difficulty small --task 0

test: setup
	$(BIN)/python -m pytest -q

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv-parity/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(PARITY)/python || $(PYTHON) -m venv .venv-parity
	$(PARITY)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,alfworld]'
	touch $@

parity: .venv-parity/.installed  ## native engine against the original, which this installs (Python 3.11 or 3.12)
	$(PARITY)/python -m tests.live.parity
	$(PARITY)/python -m pytest -q -m live tests/live

record-walks: .venv-parity/.installed  ## record anew the original's transcripts that `make test` replays
	$(PARITY)/python -m tests.live.parity --record

bench: setup .venv-parity/.installed
	$(PARITY)/python benchmarks/alfworld_engine.py
	$(BIN)/python benchmarks/alfworld_vector.py
	$(BIN)/python benchmarks/alfworld_experts.py
	$(BIN)/python benchmarks/targets.py

bench-alfworld: setup  ## a tiny model on the official games (needs $$ALFWORLD_DATA, or GAMES_FOLDER=a folder of them)
	$(BIN)/python benchmarks/alfworld_official.py --data $(GAMES_FOLDER)

clean:
	rm -rf .venv .venv-parity .mypy_cache .pytest_cache .ruff_cache .hypothesis
