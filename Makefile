# The commands that README names. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
TARGET_DIR = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BIN_DIR = $(TARGET_DIR)/$(TRIPLE)/release
BINARIES := tractorun tractorun-init tractorun-minicluster
CARGO := cargo --quiet
# nextest kills a test that hangs; plain cargo test relies on the tests' own deadlines.
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: help
help: ## show this list
	@echo "make <target>:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

.PHONY: quickstart
quickstart: ## install what is missing, build, train a classifier on 2 nodes x 2 workers on this machine
	@scripts/need rust build train
	@$(MAKE) build
	@scripts/quickstart "$(BIN_DIR)"

.PHONY: test
test: ## everything: format, lints, unit tests, end-to-end tests on the release binaries
	@scripts/need rust lints build train test images
	@scripts/venv
	@$(MAKE) build
	@$(MAKE) check
	@$(MAKE) unit
	@$(MAKE) python
	@$(MAKE) e2e

.PHONY: build
build: ## build the three release binaries
	@echo "building the release binaries"
	@$(CARGO) build --release --locked --package tractorun --package tractorun-init --package tractorun-minicluster --bins

.PHONY: check
check: ## format, lints, documentation with private items
	@scripts/need rust lints build
	@$(MAKE) --keep-going check-fmt check-clippy check-docs

.PHONY: check-fmt check-clippy check-docs
check-fmt:
	@echo "checking the format"
	@cargo fmt --all --check
check-clippy:
	@echo "checking the lints"
	@cargo clippy --quiet --workspace --all-targets --locked -- -D warnings
# The documentation is for those who work on the code: a public item may well point to a private one.
check-docs:
	@echo "checking the documentation"
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items --locked

.PHONY: unit
unit: ## the crates' own tests
	@echo "running the unit tests"
ifeq ($(NEXTEST),yes)
	@cargo nextest run --workspace --exclude tractorun-tests --locked --status-level fail
else
	@$(CARGO) test --no-fail-fast --workspace --exclude tractorun-tests --locked
endif

.PHONY: python
python: ## the Python package: types and unit tests
	@echo "checking the Python package"
	@scripts/venv
	@cd runtime/python && ../../.venv-package/bin/mypy && ../../.venv-package/bin/python -B -m pytest --quiet

.PHONY: e2e
e2e: ## the end-to-end tests on the release binaries (ARGS: more arguments, such as a test's name)
	@echo "running the end-to-end tests"
	@for binary in $(BINARIES); do test -x "$(BIN_DIR)/$$binary" || { echo "error: $(BIN_DIR)/$$binary is missing: run make build" >&2; exit 1; }; done
ifeq ($(NEXTEST),yes)
	@TRACTORUN_BIN_DIR="$(BIN_DIR)" cargo nextest run --package tractorun-tests --locked --status-level slow $(ARGS)
else
	@TRACTORUN_BIN_DIR="$(BIN_DIR)" $(CARGO) test --no-fail-fast --package tractorun-tests --locked $(ARGS) -- --test-threads 2
endif

.PHONY: snapshots
snapshots: ## take what people see now (help, errors, verdicts) as what they shall see: tests/snapshots
	@INSTA_UPDATE=always $(MAKE) e2e ARGS="--test snapshots"
	@git --no-pager diff --stat -- tests/snapshots

.PHONY: test-cluster
test-cluster: ## the conformance scripts against the cluster in YT_PROXY (YT_TOKEN), in a folder of their own there
	@scripts/venv
	@.venv/bin/python scripts/test-cluster $(ARGS)

.PHONY: bench
bench: ## print a table of what is measured here, beside the peers that are installed (ARGS: parts, such as uploads)
	@scripts/need rust build
	@{ scripts/need train && scripts/venv; } >&2 || echo "note: peers that are missing are not measured" >&2
	@$(MAKE) build >&2
	@scripts/bench "$(BIN_DIR)" $(ARGS)

.PHONY: soak
soak: ## the tests again and again (ROUNDS=20), property tests with many more cases
	@scripts/need rust build train test images
	@scripts/venv
	@$(MAKE) build
	@PROPTEST_CASES=20000 NEXTEST_PROFILE=soak $(MAKE) unit
	@TRACTORUN_CRASH_SECONDS=600 NEXTEST_PROFILE=soak $(MAKE) e2e ARGS="--test persistence"
	@TRACTORUN_BIN_DIR="$(BIN_DIR)" $(CARGO) test --package tractorun-tests --locked --test races --test logs --test logs_fuzz --test examples --test promptness -- --ignored
	@$(MAKE) images-test
	@TRACTORUN_UPSTREAM=all $(MAKE) e2e ARGS="--test python_package"
	@for round in $$(seq 1 $(or $(ROUNDS),20)); do echo "round $$round"; $(MAKE) e2e; done

.PHONY: images
images: ## build the container images with docker or podman (IMAGES: which; ENGINE, PREFIX, BASE: see scripts/images)
	@scripts/need rust build
	@$(MAKE) build
	@scripts/images "$(BIN_DIR)" $(IMAGES)

.PHONY: images-test
images-test: ## build all images with podman and run jobs in each (about 5 minutes, packages are fetched)
	@scripts/need rust build images
	@$(MAKE) build
	@TRACTORUN_BIN_DIR="$(BIN_DIR)" $(CARGO) test --package tractorun-tests --locked --test images -- --include-ignored

.PHONY: wheels
wheels: ## build the Python wheels into dist/: for laptops, with the three programs, and for images
	@scripts/need rust build
	@$(MAKE) build
	@scripts/wheels "$(BIN_DIR)" dist

.PHONY: release
release: ## leave the three static binaries, their checksums, the man page and completions in dist/
	@scripts/need rust build
	@$(MAKE) build
	@mkdir -p dist
	@install -m 755 $(addprefix $(BIN_DIR)/,$(BINARIES)) dist/
	@dist/tractorun --man > dist/tractorun.1
	@for shell in bash zsh fish; do dist/tractorun --completions $$shell > dist/tractorun.$$shell; done
	@cd dist && sha256sum $(BINARIES) > SHA256SUMS && cat SHA256SUMS
