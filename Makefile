# One file of entry points; `make help` lists them.
# 3.11 is what the locks are compiled for; a later one is used where it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin

# Compiled modules are kept whatever the shell says: each of hundreds of processes would compile two hundred of ours again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install components demo serve test check bench bench-tsa bench-ledger docs clean locks

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(VENV)/installed: requirements/dev.txt requirements/oracle.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Installing hash-locked dependencies into $(VENV) (once, a minute or two) ..."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python --require-hashes -r requirements/oracle.txt \
		|| echo "note: the oracles cannot be installed here; their tests will say that they are skipped"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(VENV)/installed ## Make .venv with hash-locked dependencies

components: ## Install the real components that tests need and no wheel brings
	@PYTHON="$(PYTHON)" tools/components.sh

demo: install ## The story: two governed jobs, evidence, proof, refusals
	@$(BIN)/python demo/story.py

serve: install ## Run QCOS on ./.data until stopped
	@$(BIN)/qcos up --data .data

test: install components ## All tests, real components; three workers keep two cores busy while tests wait
	@$(BIN)/python -m pytest -n 3 --dist loadfile

check: install ## Format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: install ## Measure, against the floor and the peer in the same run; writes build/bench.json
	@$(BIN)/python benchmarks/bench.py

bench-tsa: install ## Time-stamp tokens a second a core; writes build/tsa_bench.json
	@$(BIN)/python benchmarks/tsa_bench.py

bench-ledger: install ## The same for the ledger alone, at a million entries; writes build/ledger_bench.json
	@$(BIN)/python benchmarks/ledger_bench.py

docs: install ## Check that the docs' links and examples hold
	@$(BIN)/python -m pytest -q tests/docs

locks: ## Compile the lock files anew (needs uv)
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 requirements/dev.in -o requirements/dev.txt
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 requirements/server.in -c requirements/dev.txt -o requirements/server.txt
	uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 requirements/localstack.in -o requirements/localstack.txt

clean: ## Remove what was made here (not data)
	rm -rf $(VENV) build .mypy_cache .ruff_cache
