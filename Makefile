# What a person needs to work with xferq. `make` alone lists it.

VENV := .venv
INSTALLED := $(VENV)/.installed
NATIVE := $(VENV)/.native
TOOLS := $(VENV)/.installed-tools
BIN := $(VENV)/bin
MAIL ?=
MINUTES ?= 10
SECONDS ?= 60
SEED ?=

# Tests start a thousand processes: where bytecode is not kept, each would compile all of xferq.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help install demo up test quick check format bench faults fuzz pins clean

help: ## This list
	@printf 'xferq: transfer queues on Kafka. Needs Python 3.11 or newer; everything else goes into %s.\n\n' '$(VENV)'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

install: $(NATIVE) ## Make .venv with xferq and its Kafka; xferq is then .venv/bin/xferq

demo: $(NATIVE) ## Mail goes into an xfer queue and comes back, on a real Kafka (MAIL=mbox, maildir or .eml files)
	$(BIN)/xferq demo $(if $(MAIL),--mail '$(MAIL)')

up: $(NATIVE) ## Kafka, HTTP API and a worker on this machine, until Ctrl-C
	$(BIN)/xferq up

test: $(TOOLS) ## All tests, stage by stage (PYTEST='--only broker -k cancel' for some of them)
	$(BIN)/python -m tests.support.run $(PYTEST)

quick: $(TOOLS) ## Everything without Kafka, with fewer examples, in a minute or so
	TEST_XFERQ_EXAMPLES=12 $(BIN)/python -m pytest --stage quick -n 2 --dist worksteal -q $(PYTEST)

check: $(TOOLS) ## Formatting, lint, types, architecture, docstrings, pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if cargo fmt --version >/dev/null 2>&1; then cargo fmt --check --manifest-path streams/native/Cargo.toml; fi
	$(BIN)/python -m pytest --stage check -q $$($(BIN)/python -c 'from tests.support.stages import CHECKS; print(*CHECKS)')

format: $(TOOLS) ## Format and fix what can be fixed by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(TOOLS) ## The drain against others, claims, posts, new queues (BENCH='--only shapes' and others: BENCH=--help)
	$(BIN)/python -m tests.bench $(BENCH)

fuzz: $(TOOLS) ## Hostile envelopes and batches through the compiled drain, for a minute (SECONDS=3600, SEED=1)
	$(BIN)/python -m tests.native.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

faults: $(TOOLS) ## Kills, pauses, cuts and delays for 10 minutes, then the verdict (MINUTES=60, SEED=1)
	$(BIN)/python -m tests.faults --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

pins: ## Newest versions that pyproject.toml permits into constraints.txt (then run the tests)
	@set -e; venv=$$(mktemp -d); trap 'rm -rf "$$venv"' EXIT; python3 -m venv "$$venv"; \
	"$$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	{ sed -n '/^#/p' constraints.txt; "$$venv/bin/python" -m pip freeze --exclude-editable; } > "$$venv/pins"; \
	cp "$$venv/pins" constraints.txt; git diff --stat constraints.txt

clean: ## Remove .venv and what tools left here (not the fetched Kafka in the user's cache)
	rm -rf $(VENV) build dist streams/native/target streams/native/*.so test-results *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Install what is asked for, and name what is fetched for it.
comma := ,
define pip
	@echo 'installing $(2) into $(VENV)'
	@{ $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile -c constraints.txt \
	  -e '$(1)'; echo "ended $$?"; } | awk 'BEGIN{ended = 1} /^Collecting /{print "  " $$2; fflush()} /^ended /{ended = $$2} END{exit ended}'
	@touch $@
endef

# Again only when dependencies have changed: the package itself is installed as a link to this folder.
$(INSTALLED): pyproject.toml constraints.txt
	@set -e; \
	for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "make install: xferq needs Python 3.11 or newer; found $$(python3 --version 2>/dev/null || echo none)" >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  version=$$("$$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "make install: Python $$version is here without its venv module; on Debian and Ubuntu: apt-get install python$$version-venv" >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  rm -rf $(VENV); echo "making $(VENV) with $$($$found --version)"; "$$found" -m venv $(VENV); \
	fi
	$(call pip,.[embedded],xferq$(comma) its Kafka client and a Java runtime for its own Kafka)
	@echo 'installed: $(BIN)/xferq'

# The compiled drain, where cargo is; without it, Python does all of it.
$(NATIVE): $(INSTALLED) streams/native/build.py streams/native/Cargo.toml streams/native/Cargo.lock $(wildcard streams/native/src/*.rs)
	@$(BIN)/python -m streams.native.build
	@touch $@

# What only whoever changes xferq needs: three times as much.
$(TOOLS): $(NATIVE)
	$(call pip,.[dev],what tests and checks need)
