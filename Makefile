# Everything starts here; `make` says what there is. Needs Python >= 3.11, make and git.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3

# uv comes from PATH when it is new enough, else from PyPI into .tools/. Looked up when first used.
UV = $(eval UV := $$(shell $$(PYTHON) scripts/bootstrap_uv.py))$(or $(UV),$(error uv could not be installed: see above))
RUN = $(UV) run --quiet --frozen --all-packages --all-extras --no-default-groups

PACKAGES := $(notdir $(patsubst %/,%,$(wildcard packages/*/)))

.PHONY: help
help: ## what there is
	@printf 'The Python microservice toolkit\n\n'
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-20s%s\n", $$1, $$2}'
	@printf '\n  packages: $(PACKAGES)\n'

.PHONY: demo
demo: ## the main job in 30 s, no server needed [NACOS=host:port] [PORT=7080] [ARGS=--keep]
	@$(RUN) --group demo -- python -m examples.demo $(if $(NACOS),--nacos $(NACOS)) $(if $(PORT),--port $(PORT)) $(ARGS)

.PHONY: demo-picture
demo-picture: ## record docs/demo.svg from a real run
	@$(RUN) --group demo -- python -m examples.demo --picture docs/demo.svg

# PYTHON_VERSION=3.14 takes the interpreter that PYTHON_3_14 names, else the one uv finds.
TEST = UV_COMMAND=$(UV) $(PYTHON) scripts/test_packages.py \
	$(if $(JOBS),--jobs $(JOBS)) $(if $(PYTHON_VERSION),--python $(PYTHON_VERSION)) $(if $(LEGS),--legs $(LEGS)) \
	$(if $(filter no,$(COVERAGE)),--no-coverage)

.PHONY: test
test: ## every package's tests, each alone: bare, with all extras [PYTHON_VERSION=3.14] [JOBS=2] [LEGS=bare,full] [COVERAGE=no]
	@$(TEST) $(P)

.PHONY: test-pkg
test-pkg: ## one package's tests: make test-pkg P=lb [ARGS="-k name"] [PYTHON_VERSION=3.14]
	@$(TEST) $(or $(P),$(error say which: make test-pkg P=lb)) -- $(ARGS)

.PHONY: test-integration
test-integration: ## against real servers, found by NACOS_SERVER_ADDR, REDIS_URL, KUBECONFIG [T=path] [ARGS=]
	@$(RUN) --group integration -- python -m pytest $(or $(T),tests-integration --ignore=tests-integration/cluster) --timeout=300 $(ARGS)

.PHONY: test-cluster
test-cluster: ## in the cluster that KUBECONFIG names, whose nodes have the images [ARGS=]
	@$(RUN) --group integration -- python -m pytest tests-integration/cluster --timeout=300 $(ARGS)

CLUSTER_RECORD ?= docs/_build/cluster-record.jsonl

.PHONY: cluster-report
cluster-report: ## the cluster tests' timeline as one HTML page; runs them with CLUSTER_RECORD set
	@mkdir -p $(dir $(CLUSTER_RECORD)) && rm -f $(CLUSTER_RECORD)
	@CLUSTER_RECORD=$(abspath $(CLUSTER_RECORD)) $(MAKE) test-cluster
	@$(RUN) -- python scripts/cluster_report.py $(CLUSTER_RECORD) docs/_build/cluster-report.html

.PHONY: check
check: ## ruff, format, mypy --strict, layers, dependencies, spelling, workspace, lock
	@UV_COMMAND=$(UV) $(RUN) --group lint --group integration --group bench -- python scripts/check.py

.PHONY: fmt
fmt: ## format the code and fix what ruff can fix
	@$(RUN) --group lint -- ruff format .
	@$(RUN) --group lint -- ruff check --fix .

.PHONY: wheels
wheels: ## build all; install each wheel alone, outside, and prove it: all its tests, fewer where `make test` has just passed
	@UV_COMMAND=$(UV) $(PYTHON) scripts/prove_wheels.py \
		$(if $(JOBS),--jobs $(JOBS)) $(if $(PYTHON_VERSION),--python $(PYTHON_VERSION)) $(P)

.PHONY: bench
bench: ## benchmarks of one package, figures into benchmarks/results: make bench P=lb [ARGS=--smoke]
	@$(RUN) --group bench -- python scripts/bench.py $(P) -- $(ARGS)

.PHONY: bench-compare
bench-compare: ## what changed between two results: make bench-compare A=old.json B=new.json (or folders)
	@$(PYTHON) scripts/bench_compare.py $(or $(A),$(error say which: A=old.json B=new.json)) $(or $(B),$(error say which: A=old.json B=new.json))

.PHONY: docs
docs: ## the documentation as HTML in docs/_build/html; runs every Python block of it
	@$(RUN) --group integration -- python scripts/run_blocks.py README.md README.zh-CN.md $$(find docs -name '*.md' -not -path '*/_build/*')
	@$(RUN) --group docs -- sphinx-build -n -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

.PHONY: changelog
changelog: ## what the next release's changelog would say: make changelog P=lb
	@$(RUN) --group lint -- towncrier build --draft --config packages/$(P)/pyproject.toml --dir packages/$(P)

.PHONY: clean
clean: ## remove everything that was built or installed into the checkout
	rm -rf .venv .tools dist build docs/_build .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

K3D_CLUSTER ?= microservice-toolkit
LITE_REGISTRY_IMAGE ?= lite-registry:0.1.0
SHOP_IMAGE ?= shop:0.1.0
IMAGES := $(LITE_REGISTRY_IMAGE) $(SHOP_IMAGE)

# The versions of uv.lock, without our own packages.
EXPORT = $(UV) export --quiet --frozen --no-header --no-annotate --no-default-groups --no-emit-workspace --no-hashes

# Whatever builds images the way `docker build -t NAME:TAG FOLDER` does.
BUILD ?= docker build

.PHONY: images
images: ## the container images [BUILD="docker build"]
	@command -v $(firstword $(BUILD)) >/dev/null || { echo "$(firstword $(BUILD)) is not installed: https://docs.docker.com/get-docker/"; exit 2; }
	rm -rf packages/lite-registry/dist
	$(UV) build --quiet --package lite-registry --no-sources --wheel --out-dir packages/lite-registry/dist
	$(EXPORT) --package lite-registry --extra yaml --extra redis --output-file packages/lite-registry/dist/constraints.txt
	$(BUILD) -t $(LITE_REGISTRY_IMAGE) packages/lite-registry
	rm -rf examples/cluster/dist
	$(UV) build --quiet --all-packages --no-sources --wheel --out-dir examples/cluster/dist
	$(EXPORT) --all-packages --all-extras --group demo --output-file examples/cluster/dist/constraints.txt
	$(EXPORT) --package microservice-kit --extra nacos --extra lanes --extra fastapi --extra yaml --extra prometheus --output-file examples/cluster/dist/requirements.txt
	$(BUILD) -t $(SHOP_IMAGE) examples/cluster

.PHONY: k3d
k3d: images ## the cluster tests on a k3d cluster made for them, with Nacos and Redis beside it (docker, k3d, kubectl, helm)
	@K3D_CLUSTER=$(K3D_CLUSTER) LITE_REGISTRY_IMAGE=$(LITE_REGISTRY_IMAGE) SHOP_IMAGE=$(SHOP_IMAGE) MAKE=$(MAKE) scripts/k3d.sh
