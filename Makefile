# Every task of the repository. `make` alone prints the list. The work is in scripts/, which also finds
# or installs the tools (Rust, Python, Node, a C compiler) that the task needs and no more.

RUNTIME ?= python

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench package build clean

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## replay the flights of 2013 through aggregates, store and handlers (RUNTIME=node, ARGS="--limit 20000")
	@scripts/demo.sh "$(RUNTIME)" $(ARGS)

test: ## everything CI runs: linters, types, tests, examples, packages (ONLY="rust python" for some parts)
	@scripts/test.sh $(ONLY)

lint: ## formatters and linters of the three languages
	@scripts/lint.sh

build: ## the Python extension and the Node package in place, for running things by hand
	@scripts/build.sh

bench: ## the benchmarks, beside their peers, with the release build (ARGS="--only append")
	@scripts/bench.sh $(ARGS)

package: ## the wheel and the npm tarball into dist/
	@scripts/package.sh

clean: ## remove what was built here (add the folder of cargo's target to free the rest)
	@scripts/clean.sh
