# The two commands of a fresh machine are `make demo` and `make test`; CI calls the same targets.

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# The newest interpreter that meshlb supports; `make PYTHON=/path/to/python` overrides it.
PYTHON ?= $(shell for candidate in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		&& { command -v $$candidate; break; }; done)

# How long the demo runs: until Ctrl-C in a terminal, half a minute in a pipe or in CI.
DEMO_SECONDS ?=
DEMO_ARGS    ?=

# What `make bench` measures: http, workers, tls, growth, websocket, tunnels, race, claims, agreement, visibility, join, restart or crash.
BENCH      ?= http
BENCH_ARGS ?=

# Tests at a time: those with real processes mostly wait for time-outs, so more than there are cores.
JOBS ?= $(shell jobs=$$(($$(nproc) * 2)); echo $$((jobs < 16 ? jobs : 16)))

# Extra arguments for pytest, as in `make test PYTEST_ARGS='-x tests/unit'`.
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv test check fmt demo bench sim model fuzz lock compiled clean

help: ## say what the targets do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## make .venv with the locked dependencies and meshlb itself

$(STAMP): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "meshlb needs Python 3.11 or newer; none was found" >&2; exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments: it lacks ensurepip." >&2; \
		     echo "On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

test: check ## the fast checks, then every test
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(PYTEST_ARGS)

check: $(STAMP) ## lint, format, types, import contracts
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo

fmt: $(STAMP) ## format, and repair what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: $(STAMP) ## three nodes, three backends, a live view
	@seconds="$(DEMO_SECONDS)"; \
	if [ -z "$$seconds" ] && [ ! -t 1 ]; then seconds=30; fi; \
	exec $(BIN)/meshlb demo $${seconds:+--seconds $$seconds} $(DEMO_ARGS)

bench: $(STAMP) ## CPU per request beside HAProxy and nginx; BENCH=websocket for tunnels
	$(BIN)/python -m tests.bench.$(BENCH) $(BENCH_ARGS)

sim: $(STAMP) ## whole nodes in virtual time: SEED=7 NODES=5 STEPS=200, or SEEDS=20000 for a sweep; ROLL=up: mixed versions
	$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200)) \
		$(if $(NODES),--nodes $(NODES)) $(if $(STEPS),--steps $(STEPS)) $(if $(ROLL),--roll $(ROLL))

model: $(STAMP) ## check the models of the protocol with Spin
	$(BIN)/python protocol/model/check.py

fuzz: $(STAMP) ## fuzz with atheris: TARGET=codec, http, members, pins, sealing, turns, words (default: all), SECONDS=600 each
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
		|| $(BIN)/pip install --quiet --disable-pip-version-check 'atheris>=3'
	@for target in $(or $(TARGET),codec http members pins sealing turns words); do \
		$(BIN)/python -m tests.fuzz $$target --seconds $(or $(SECONDS),600) || exit 1; \
	done

lock: $(STAMP) ## pin the dependencies anew (versions only: no hashes, no addresses)
	$(BIN)/pip install --quiet --disable-pip-version-check pip-tools
	$(BIN)/pip-compile --quiet --upgrade --extra dev --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file requirements-dev.lock pyproject.toml

compiled: $(STAMP) ## compile the hot path into .compiled, for BENCH and MESHLB_TEST_COMPILED=1 (a minute)
	rm -rf build .compiled
	MESHLB_COMPILE=1 $(BIN)/pip install --quiet --disable-pip-version-check --no-deps \
		--target .compiled .
	rm -rf build

clean: ## remove what make and the tests made
	rm -rf $(VENV) .compiled *.egg-info build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .fuzz tests/peers/socketio/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
