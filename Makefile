# loadnode: images bare-metal machines over the network.
# A newcomer needs two commands: `make demo` runs the main job, `make test` passes the tests.

SHELL    := /bin/bash
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)
TOOLS    := $(GO) tool -modfile=deploy/tools/go.mod
COMMANDS := omf omf-agent frisbee frisbeed imagezip imageunzip

# The race detector needs a C compiler. Without one the tests still run, and
# say that they ran without it.
RACE := $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo -race)

.PHONY: all build test demo bench lint fmt vet fuzz clean help

all: build

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: ## the six commands, into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(COMMANDS))

# The large models of the data plane would take ten times as long with the race
# detector; they are skipped there and run by themselves, built as the programs are.
test: ## every test, with the race detector where a C compiler is present
	@$(if $(RACE),,echo "no C compiler found: running without the race detector")
	$(GO) test $(RACE) -timeout 10m ./...
	$(if $(RACE),CGO_ENABLED=0 $(GO) test -trimpath -timeout 5m ./transfer/client)

demo: build ## the whole system on this machine: 8 simulated nodes loaded and compared
	bin/omf demo

bench: ## benchmarks; what they mean is in docs/performance.md
	$(GO) run ./deploy/bench

lint: fmt vet ## formatting, vet, staticcheck; the import rules are a test of the root package
	$(TOOLS) staticcheck ./...

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted by gofmt:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

fuzz: ## every fuzz target for FUZZTIME (default 10s) each
	deploy/fuzz $(or $(FUZZTIME),10s)

clean:
	rm -rf bin
