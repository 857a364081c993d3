# What this machine must have: git, make, Python 3.11 or newer with its venv module. Everything else is installed below.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DURATION ?=
SEED ?=
MINUTES ?= 5
READINGS ?=
PLOT ?=
ONLY ?=
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: help demo test test-slow test-mutations soak soak-day check format bench bench-fleet bench-drain bench-neighbour bench-months bench-restore bench-storage bench-drivers lock clean tools
help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/ready ## the whole line on this machine; DURATION=20 ends by itself
	@exec $(BIN)/heal7-iot demo $(if $(DURATION),--duration $(DURATION)) $(if $(SEED),--seed $(SEED))

test: $(VENV)/ready tools ## all tests but the slow ones, in random order
	$(BIN)/python -m pytest -q -n 4 --dist loadfile -m "not slow and not mutation" $(TESTS)

test-slow: $(VENV)/ready tools ## longer faults, models, power cuts and fleets at length; then test-mutations
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow --no-header --durations=15
	@$(MAKE) --no-print-directory test-mutations

test-mutations: $(VENV)/ready tools ## breach each promise: unit tests pass, the faults find it (some 10 minutes)
	$(BIN)/python -m pytest -q -n 2 -m mutation --no-header --durations=5

soak: $(VENV)/ready tools ## faults by chance for MINUTES, from SEED; PLOT=file.png, ONLY='kill gateway,cut commit'
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(PLOT),--plot $(PLOT)) $(if $(ONLY),--only '$(ONLY)')

soak-day: $(VENV)/ready tools ## 24 h in 24 minutes, with faults; what every process takes, in PLOT=file.png
	@$(BIN)/python -m tests.faults.soak --day --minutes 24 $(if $(SEED),--seed $(SEED)) $(if $(PLOT),--plot $(PLOT))

check: $(VENV)/ready ## format, lint, strict types over code and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/ready ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/ready ## raw COPY beside the whole line; then the gateway at 1,000 readings/s
	$(BIN)/python -m bench.line
	$(BIN)/python -m bench.gateway

bench-fleet: $(VENV)/ready tools ## 1,000 gateways lose their broker and come back; what it takes, in PLOT=file.png
	$(BIN)/python -m bench.fleet $(if $(PLOT),--picture $(PLOT))

bench-drain: $(VENV)/ready tools ## the spool of a 24 h outage drains beside live readings
	$(BIN)/python -m bench.drain $(if $(PLOT),--picture $(PLOT))

bench-neighbour: $(VENV)/ready ## what the platform's own queries feel of 10,000 readings/s in the same database
	$(BIN)/python -m bench.neighbour

bench-months: $(VENV)/ready ## months made, archived and dropped beside 20,000 readings/s and long queries
	$(BIN)/python -m bench.months

bench-restore: $(VENV)/ready ## backup, restore and verification of READINGS=10000000
	$(BIN)/python -m bench.restore $(if $(READINGS),--readings $(READINGS))

bench-storage: $(VENV)/ready ## a year of READINGS=100000000 (40 GB of disk): load rate, queries
	@$(BIN)/python -m bench.storage $(if $(READINGS),--readings $(READINGS))

bench-drivers: $(VENV)/ready tools ## frames/s of each codec, adverts/s; a gateway with 200 BLE sensors and 16 serial lines
	@$(BIN)/python -m bench.drivers

lock: $(VENV)/ready ## resolve the dependencies anew
	$(PYTHON) -m venv $(VENV)/uv && $(VENV)/uv/bin/pip install -q uv
	$(VENV)/uv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --all-extras --group dev pyproject.toml -o requirements/dev.txt --upgrade

clean: ## remove what was made here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

# pip refuses a package whose hash is not in the lock file; ours is added without its dependencies.
$(VENV)/ready: pyproject.toml requirements/dev.txt
	@command -v git >/dev/null || { echo "git is missing: apt-get install git"; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: install Python 3.11 or newer, or say make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	@echo "making $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --use-pep517 --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# In the environment: npm comes out of it, and TimescaleDB goes into it.
tools: $(VENV)/ready
	@./tests/install-tools.sh $(VENV)
