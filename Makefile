# hachi: make help lists what can be made.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

GO      ?= go
BIN     := $(CURDIR)/bin
TOOLS   := $(BIN)/tools
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X github.com/hachi-run/hachi/internal/version.version=$(VERSION) -X github.com/hachi-run/hachi/shim/launch.version=$(VERSION)
# gRPC's tracing links in templates and a web page that the shim would initialise at every start.
GOTAGS  := grpcnotrace
# How long each fuzz target runs in `make fuzz`, in Go's notation.
FUZZTIME ?= 10s
# Narrow a test run: make test-unit PKG=./shim/... ARGS='-run TestStart -v'
PKG  ?= ./...
ARGS ?=

CONTAINERD2 := $(TOOLS)/containerd-2.4.2
CONTAINERD1 := $(TOOLS)/containerd-1.7.35
LINT        := $(TOOLS)/lint
SUITE       := $(TOOLS)/clientsuite

##@ Build

.PHONY: build
build: ## The four binaries, static, into bin/
	mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(GOTAGS) -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

.PHONY: samples
samples: ## The sample guests as Wasm, into bin/samples/
	$(GO) run ./samples/build -o $(BIN)/samples

.PHONY: tools
tools: $(CONTAINERD2)/.stamp $(CONTAINERD1)/.stamp $(SUITE)/.stamp $(LINT)/.stamp ## containerd 2.4.2 and 1.7.35, its client suite, the linters

# The same by version, for tests that ask for one.
.PHONY: containerd-2.4.2 containerd-1.7.35 clientsuite
clientsuite: $(SUITE)/.stamp
containerd-2.4.2: $(CONTAINERD2)/.stamp
containerd-1.7.35: $(CONTAINERD1)/.stamp

# A tool module is one folder with its own go.mod, so that what tools need stays out of the product's; its
# versions are exact. The folder's stamp is as old as the last build.
TOOLTAGS := no_btrfs,no_zfs,no_devmapper,no_aufs
buildtools = mkdir -p $(@D) && CGO_ENABLED=0 nice $(GO) -C conformance/tools/$(1) build -trimpath -ldflags '-s -w' -tags $(TOOLTAGS) -o $(@D)/ tool && touch $@

$(CONTAINERD2)/.stamp: conformance/tools/containerd2/go.mod conformance/tools/containerd2/go.sum
	$(call buildtools,containerd2)
$(CONTAINERD1)/.stamp: conformance/tools/containerd1/go.mod conformance/tools/containerd1/go.sum
	$(call buildtools,containerd1)
$(LINT)/.stamp: conformance/tools/lint/go.mod conformance/tools/lint/go.sum
	$(call buildtools,lint)
$(SUITE)/.stamp: conformance/tools/clientsuite/go.mod conformance/tools/clientsuite/go.sum
	mkdir -p $(@D)
	nice $(GO) -C conformance/tools/clientsuite test -c -o $(@D)/client.test github.com/containerd/containerd/v2/integration/client
	$(GO) -C conformance/tools/clientsuite list -f '{{.Dir}}' github.com/containerd/containerd/v2/integration/client > $(@D)/source
	touch $@

.PHONY: clean
clean: ## Remove bin/
	rm -rf $(BIN)

##@ Run

# Asked before anything is built: half a minute of compiling should not end in "permission denied".
define needroot
if [ "$$(id -u)" != 0 ]; then \
  echo "make $@: a private containerd needs root for namespaces, cgroups and mounts (run: sudo make $@)" >&2; exit 1; \
fi
endef

.PHONY: run
run: ## A Wasm service in a private containerd: start, call, measure, stop (root)
	@$(needroot)
	@$(MAKE) -s --no-print-directory build samples $(CONTAINERD2)/.stamp
	@$(GO) run ./conformance/demo

.PHONY: bench
bench: ## Cold start and throughput against runc, as ratios (root)
	@$(needroot)
	@$(MAKE) -s --no-print-directory deps build samples $(CONTAINERD2)/.stamp
	$(GO) run ./conformance/coldstart $(ARGS)

##@ Test

# Without the race detector: what compiles large Wasm modules in Go, which it slows down thirtyfold, and what
# measures its own time.
NORACE := /runtime/artifact$$|/runtime/engine$$|/shim/launch$$
# Every run goes on after a failure, and the report has the last word. -p 1: the packages of conformance start
# daemons and look for what they leave on one host.
RESULTS := $(BIN)/test.json

.PHONY: test
test: deps static ## Everything CI runs
	@$(MAKE) -s --no-print-directory build samples tools
	@unit=$$($(GO) list ./... | grep -v /conformance/); \
	$(GO) test -race -json -timeout 10m $$(grep -vE '$(NORACE)' <<<"$$unit") > $(RESULTS) || true; \
	$(GO) test -json -timeout 10m $$(grep -E '$(NORACE)' <<<"$$unit") >> $(RESULTS) || true; \
	$(GO) test -p 1 -json -timeout 15m ./conformance/... >> $(RESULTS) || true
	@$(GO) run ./conformance/report < $(RESULTS)

.PHONY: test-unit
test-unit: ## Tests of PKG with the race detector: make test-unit PKG=./shim/... ARGS='-run X -v'
	$(GO) test -race -timeout 10m $(ARGS) $(PKG)

.PHONY: test-containerd
test-containerd: build samples $(CONTAINERD2)/.stamp $(CONTAINERD1)/.stamp ## The cases against real containerd, both versions (root)
	@$(needroot)
	$(GO) test -timeout 15m $(ARGS) ./conformance/containerd/...

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (10s)
	@$(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | while read -r pkg; do \
	  $(GO) test -run '^$$' -list '^Fuzz' "$$pkg" | { grep '^Fuzz' || true; } | while read -r target; do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null; \
	  done; \
	done

# What the tests use beside Go: a C compiler for Wasm guests, runc to compare with, ip for namespaces.
DEBS := runc clang lld wasi-libc libclang-rt-14-dev-wasm32 iproute2 gcc libc6-dev busybox-static mariadb-server rustc libstd-rust-dev-wasm32

.PHONY: deps
deps: ## Install what the tests need and is missing (Debian, root)
	@missing=$$(for p in $(DEBS); do dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	[ -z "$$missing" ] && exit 0; missing=$$(echo $$missing); \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "make deps: not installed: $$missing (tests that need them are skipped and say so)"; exit 0; \
	fi; \
	echo "make deps: installing $$missing"; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing

##@ Check

.PHONY: check
check: generate static clean-tree ## Format, lint, generated files, arm64, clean tree

.PHONY: static
static: fmt vet lint arm64

.PHONY: fmt
fmt: ## Fail on files that gofmt would change
	@bad=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l -s); \
	[ -z "$$bad" ] || { echo "not formatted (gofmt -s -w):"; echo "$$bad"; exit 1; }

.PHONY: vet
vet: ## go vet, also for the guests
	$(GO) vet ./...
	GOOS=wasip1 GOARCH=wasm $(GO) vet $$($(GO) list ./samples/... | grep -v /samples/build)

.PHONY: lint
lint: $(LINT)/.stamp ## The linters of .golangci.yml
	$(LINT)/golangci-lint run

.PHONY: generate
generate: ## Run the generators
	$(GO) generate ./...

.PHONY: arm64
arm64: ## Build and vet for arm64
	CGO_ENABLED=0 GOARCH=arm64 $(GO) build -o /dev/null ./cmd/... ./shim/... ./runtime/... ./internal/...
	CGO_ENABLED=0 GOARCH=arm64 $(GO) vet ./...

.PHONY: clean-tree
clean-tree:
	@dirty=$$(git status --porcelain); \
	[ -z "$$dirty" ] || { echo "make check: the tree differs from the last commit (commit it, or commit what the generators wrote):"; echo "$$dirty"; exit 1; }

##@ Help

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
