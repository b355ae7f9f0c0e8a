# The commands of sdrest. `make demo` and `make test` are all that a newcomer needs: they install what is
# missing (apt, pip), say what they do, and never write the host's /etc.
#
#   make demo [KEEP=1]   build, sign in through PAM, draw a red circle; KEEP=1 leaves the server running
#   make test            every suite in its CI size, with seconds per suite
#   make test-full       the rest: references compared live with HF diffusers, full matrices
#   make fuzz            the fuzz targets guided by coverage; SECONDS=600 for each, TARGETS="names values_json" for some
#   make bench           tables against HF diffusers, interleaved in one run
#   make build           the programs, in target/release
#   make libtorch        libtorch 2.11.0 into .libtorch (LIBTORCH_DIR=… uses one that you have)
#   make lint            rustfmt, clippy, licences and bans

SHELL := /bin/bash
PYTHON ?= python3
CARGO ?= cargo
LIBTORCH_DIR ?=
export CARGO_TERM_COLOR ?= auto

.NOTPARALLEL:
.PHONY: demo test test-full fuzz bench build libtorch lint setup-demo setup-test help
help:
	@sed -n 's/^#   //p' Makefile

setup-demo:
	@tests/setup.sh demo

setup-test:
	@tests/setup.sh test

libtorch: | setup-demo
ifeq ($(LIBTORCH_DIR),)
	@$(PYTHON) sdrest-worker/libtorch/fetch.py .libtorch .cache/libtorch
else
	@$(PYTHON) sdrest-worker/libtorch/fetch.py --use $(LIBTORCH_DIR) .libtorch
endif

build: libtorch
	@echo "build: the programs of sdrest (the first time takes minutes)"
	@$(CARGO) build --release --workspace --bins
	@for name in stable-diffusion-rest stable-diffusion-rest-server; do ln -sfn sdrestctl "$${CARGO_TARGET_DIR:-target}/release/$$name"; done

demo: build
	@KEEP=$(KEEP) tests/demo/demo.sh

test: setup-test libtorch
	@$(PYTHON) tests/run.py

test-full: setup-test libtorch
	@$(PYTHON) tests/run.py --full

fuzz: setup-test libtorch
	@SECONDS_EACH=$(or $(SECONDS),600) TARGETS="$(TARGETS)" $(PYTHON) tests/fuzz/guided.py

bench: setup-test build
	@$(PYTHON) tests/bench/run.py

lint: libtorch
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
