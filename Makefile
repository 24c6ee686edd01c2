# Everything is installed into this checkout: .venv (tools, tests, local stack), .venv-ministack (the embedded AWS),
# .venv-bench, .venv-examples and .venv-mutants. Each is installed once, and again when its requirement file changes.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
STACK ?= openai-proxy
# More arguments for the command behind a target, as in: make test ARGS="-k sse -x"
ARGS ?=
# Processes that run tests side by side, as tests/groups.py shares them out. More than there are processors: half of the
# time tests wait. Where ARGS names a file, its tests run in one process.
WORKERS ?= 5
PARALLEL = $(if $(findstring .py,$(ARGS)),-n 0,-n $(WORKERS) --dist loadscope --no-loadscope-reorder)

BIN := .venv/bin
# SAM keeps its settings in the checkout and reports to nobody.
export SAM_CLI_TELEMETRY := 0
export __SAM_CLI_APP_DIR := $(CURDIR)/.local/sam
# Nothing of the caller's own Python reaches the environments, and bytecode is kept.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/ready .venv-ministack/ready ## Run the whole application on this machine: function URL on http://127.0.0.1:8080 (or PORT)
	@$(BIN)/python -m local run $(ARGS)

test: .venv/ready .venv-ministack/ready .venv-examples/ready ## Run every test, end to end included (ARGS="-k sse -x" to choose)
	@$(BIN)/pytest $(PARALLEL) $(ARGS)

# These tests hardly wait, and every worker collects all of them.
test-fast: WORKERS := $(if $(filter environment%,$(origin WORKERS)),$(WORKERS),3)
test-fast: .venv/ready ## Run the unit and contract tests: a minute or so
	@$(BIN)/pytest $(PARALLEL) tests/unit tests/contract $(ARGS)

check: export AWS_DEFAULT_REGION ?= us-east-1
check: .venv/ready ## Lint, format, types, import rules, template, contract tests, the owner's files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/cfn-lint template.yaml .github/deploy-role.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/sam validate --lint --template-file template.yaml
	$(BIN)/pytest tests/contract
	$(BIN)/openai-proxy servers check openai_servers.yaml
	$(BIN)/openai-proxy identity check
	$(BIN)/openai-proxy prices check

conformance: .venv/ready ## Run the stream conformance suite against a deployment (ARGS="--url https://…/conformance --key opx-…")
	@$(BIN)/python -m conformance run $(ARGS)

faults: .venv/ready .venv-ministack/ready ## Let every call to AWS go wrong in every way, and compare with docs/faults.md
	@$(BIN)/pytest tests/contract/test_faults.py tests/e2e/test_aws_faults.py tests/e2e/test_aws_soak.py \
	  tests/e2e/test_bus_outage.py --all-faults -n 2 $(ARGS)

pictures: .venv/ready .venv-ministack/ready ## Take the README's pictures of a running local stack (needs Chromium)
	@$(BIN)/python -m tests.e2e.browser.pictures

client: ## Build the library for browsers and Node, clients/js, and renew the playground's copy of it (needs npm)
	@cd clients/js && npm ci --ignore-scripts --no-audit --no-fund --silent && node build.mjs --for-the-playground

clients: .venv/ready ## Try client libraries as they come (installs each); what ran is written into docs/clients.md
	@$(BIN)/python -m tests.clients $(ARGS)

# The modules or folders whose changes are tried: those that one has changed, as a rule.
MODULES ?= functions shared
ifneq ($(filter -h --help,$(ARGS)),)
bench mutants:
	@$(PYTHON) -m $@.arguments --help
else
bench: ## Measure speed and memory, as told in docs/benchmarks.md
	$(call ask-first,bench,$(ARGS),.venv/ready .venv-ministack/ready .venv-bench/ready)
	@$(BIN)/python -m deployment build --this-machine --into .local/bench/build
	@$(BIN)/python -m bench $(ARGS)

mutants: ## Change modules in small ways and list what no test notices (MODULES=… ARGS="--sample 100")
	$(call ask-first,mutants,$(MODULES) $(ARGS),.venv/ready .venv-mutants/ready)
	@$(BIN)/python -m mutants $(MODULES) $(ARGS)
endif

# For the Python and the architecture of the functions, whatever this machine has; deployment/ says how. Its bytecode needs a
# Python of that version: BYTECODE_PYTHON names one, or is none.
build: .venv/ready ## Build the application for Lambda into .aws-sam/build, byte-compiled
	@$(BIN)/python -m deployment build $(ARGS)

deploy: .venv/ready ## Build it, deploy it to AWS with samconfig.toml (STACK=openai-proxy), save the lake's queries
	@$(BIN)/python -m deployment deploy --stack-name $(STACK) $(ARGS)

# The Lambda runtime brings boto3, which a layer would hide with another one.
OF_THE_RUNTIME = botocore jmespath python-dateutil six urllib3
requirements: .venv/ready ## Compile the requirement files (ARGS=--upgrade for newer versions)
	@for file in shared/requirements.in layers/*/requirements.in requirements/*.in; do \
	  case $$file in layers/tracing/*) brought="$(OF_THE_RUNTIME:%=--no-emit-package %)" ;; *) brought= ;; esac; \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make requirements" $$brought $(ARGS) --output-file $${file%.in}.txt $$file || exit 1; \
	done

clean: ## Remove everything built, installed or stored in this checkout
	rm -rf .venv .venv-ministack .venv-bench .venv-examples .venv-mutants .aws-sam .local .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define new-enough
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: install it or name it, as in: make PYTHON=python3.11" >&2; exit 1; }
endef

# $(call ask-first,TOOL,ARGUMENTS,ENVIRONMENTS): a wrong name is refused before anything is installed.
define ask-first
	$(new-enough)
	@$(PYTHON) -m $(1).arguments $(2)
	@$(MAKE) $(3)
endef

# $(call environment,FOLDER,REQUIREMENTS): a virtual environment with exactly the packages of a hashed requirement file.
define environment
	$(new-enough)
	@test -x $(1)/bin/pip || $(PYTHON) -m venv --clear $(1) || \
	  { rm -rf $(1); echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing $(2) into $(1) (once; a minute or two) …"
	@$(1)/bin/python -m pip --disable-pip-version-check --no-input install -qq --no-deps --require-hashes -r $(2)
endef

.venv/ready: requirements/dev.txt pyproject.toml console/launcher.sh
	$(call environment,.venv,requirements/dev.txt)
	@$(BIN)/python -m pip --disable-pip-version-check --no-input install -qq --no-deps --no-index --no-build-isolation --editable .
	@touch $@

.venv-%/ready: requirements/%.txt
	$(call environment,.venv-$*,$<)
	@touch $@

.PHONY: help run test test-fast check conformance faults pictures client clients bench mutants build deploy requirements clean
