VENV ?= .venv
PYTHON = $(VENV)/bin/python

.PHONY: help run test test-slow check check-static hooks fix bench

help:           ## List the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The commands of the README install a copy instead, which would not see later changes.
ifeq ($(wildcard $(VENV)/lib/python*/site-packages/_editable_impl_batchdigit.pth),)
.PHONY: $(VENV)/.dev
endif

$(VENV)/.dev: pyproject.toml batchdigit/version.py
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable ".[dev]"
	touch $@

run: $(VENV)/.dev            ## Label the sample images
	$(VENV)/bin/batchdigit run sample_images --out preds.csv

test: $(VENV)/.dev           ## Run the tests, all but the slow ones
	$(PYTHON) -m pytest

test-slow: $(VENV)/.dev      ## Run the slow tests: campaigns, mutations, measurements
	$(PYTHON) -m pytest -m slow -n 0 --ignore tests/strangers
	$(PYTHON) -m pytest -m slow tests/strangers

check: check-static test     ## Everything that must hold: format, lint, types, floors, tests and sizes

check-static: $(VENV)/.dev   ## Format, lint, types, floors, and the settings of hooks and workflows
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pre-commit validate-config
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/zizmor --offline --quiet .github/workflows

hooks: $(VENV)/.dev          ## Check every commit before it is made
	$(VENV)/bin/pre-commit install

fix: $(VENV)/.dev            ## Format, and repair what the linter can
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bench: $(VENV)/.dev          ## Measure against rivals and `import torch` (minutes)
	$(PYTHON) -m benchmarks.startup
	$(PYTHON) -m benchmarks.throughput --images 5000
	$(PYTHON) -m benchmarks.reading
	$(PYTHON) -m benchmarks.roofline
