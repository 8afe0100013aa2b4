# Everything starts here; `make help` says what there is. Needs Python >= 3.11, make and git.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3

# uv comes from PATH when it is new enough, else from PyPI into .tools/.
UV = $(eval UV := $$(shell $(PYTHON) scripts/bootstrap_uv.py))$(or $(UV),$(error uv could not be installed, see above))
RUN = $(UV) run --quiet --frozen --all-packages --all-extras --group dev
export UV_COMMAND = $(UV)

.PHONY: help
help: ## What there is
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: test
test: ## Every package's tests, each package alone (no server needed)
	$(PYTHON) scripts/test_packages.py

.PHONY: test-pkg
test-pkg: ## One package's tests: make test-pkg P=lb [ARGS="-k name"]
	$(PYTHON) scripts/test_packages.py $(or $(P),$(error say which: make test-pkg P=lb)) -- $(ARGS)
