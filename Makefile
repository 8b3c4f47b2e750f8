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

.PHONY: all build test cluster demo packages packages-check bench lint fmt vet fuzz clean help

all: build

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## the six commands, into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(COMMANDS))

# Packages in which nothing runs side by side: the race detector has nothing to find there, and takes ten times as long
# for it. A test in deploy/check holds them to it. Those of MIXED run in both parts: what is large only in the second (transfer/internal/large).
SEQUENTIAL := events cmd/imagezip cmd/internal/getopt cmd/internal/outfile cmd/omf/internal/config cmd/omf/internal/manual cmd/omf/internal/migrate \
              deploy/check deploy/initramfs deploy/initramfs/cpio deploy/packages \
              handler/inventory handler/job handler/lease handler/netboot/script handler/nodeset \
              transfer/disk/loop transfer/disk/ptable transfer/inflate transfer/replay transfer/wire $(addprefix transfer/imagezip/,ext fat free ntfs probe roundtrip swap xfs)
MIXED      := $(addprefix ./transfer/,client imagezip install ndz)

# Nobody debugs what is compiled for tests, so it is without what debuggers need; a program without races need not wait a
# second at its end for the report of one. Both is handed on to what tests build and start.
test: export GOFLAGS := $(shell $(GO) env GOFLAGS) -gcflags=all=-dwarf=false
test: export GORACE := atexit_sleep_ms=100
# Many tests wait for something, so more packages than there may be cores run at a time. make vet is for itself.
test: ## every test, with the race detector where a C compiler is present
	@$(if $(RACE),,echo "no C compiler found: running without the race detector")
	$(GO) test $(RACE) -vet=off -p 4 -ldflags='-s -w' -timeout 10m $(filter-out $(addprefix loadnode/,$(SEQUENTIAL) deploy/cluster),$(shell $(GO) list ./...))
	CGO_ENABLED=0 $(GO) test -vet=off -p 3 -trimpath -ldflags='-s -w' -timeout 5m $(addprefix ./,$(SEQUENTIAL)) $(if $(RACE),$(MIXED))

cluster: ## the proof on a cluster: three servers of the bus, three handlers, fifty nodes, one server or handler killed; one server, killed at every fact of a job
	$(GO) test -count 1 -timeout 5m -v ./deploy/cluster
	$(GO) test -count 1 -timeout 5m -v -run KillMatrix ./cmd/omf -args -kill-at-every

demo: build ## the whole system on this machine: 8 simulated nodes loaded and compared
	bin/omf demo

# ARCH=arm64 builds for other machines; IMAGING adds options (docs/imaging-system.md).
initramfs: ## kernel and initrd of the imaging system, into bin/imaging
	$(GO) run ./deploy/initramfs -o bin/imaging$(if $(ARCH),/$(ARCH) -arch $(ARCH)) -version $(VERSION) $(IMAGING)

e2e: build ## QEMU machines boot from the network, are loaded and saved, start from their disks, and meet faults; needs root, gets what it needs by apt-get
	deploy/e2e/prepare
	$(GO) build -o bin/e2e ./deploy/e2e
	$(GO) run ./deploy/initramfs -o bin/imaging/cloud -package linux-image-cloud-amd64 -version $(VERSION)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/imaging/guest.init ./deploy/e2e/guest
	$(GO) run ./deploy/initramfs -o bin/imaging/guest -package linux-image-cloud-amd64 -agent bin/imaging/guest.init
	bin/e2e -omf bin/omf -imaging bin/imaging/cloud -guest bin/imaging/guest

# DEB_ARCH=amd64 builds for one architecture. What is in them: deploy/packages/layout.go.
DEB_ARCH ?= amd64,arm64
packages: ## Debian packages of server, command line and agent, into bin/packages (docs/install.md)
	$(GO) run ./deploy/packages -o bin/packages -arch $(DEB_ARCH) -version $(VERSION)

packages-check: packages ## installs them on a clean Debian system, runs the service, purges them; needs root and debootstrap
	deploy/packages/check bin/packages

bench: ## benchmarks; what they mean is in docs/performance.md
	$(GO) run ./deploy/bench

lint: fmt vet ## formatting, vet, staticcheck; the import rules are a test, in deploy/check
	$(TOOLS) staticcheck ./...

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted by gofmt:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

fuzz: ## every fuzz target for FUZZTIME (default 10s) each
	deploy/fuzz $(or $(FUZZTIME),10s)

clean:
	rm -rf bin
