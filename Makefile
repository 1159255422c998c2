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
KUBERNETES  := $(TOOLS)/kubernetes-1.36.0
HELM        := $(TOOLS)/helm-4.0.1
KUBETOOLS   := $(KUBERNETES) $(HELM) $(TOOLS)/etcd-3.6.5 $(TOOLS)/coredns-1.13.1 $(CNIPLUGINS) $(TOOLS)/metrics-server-0.7.2
CRITOOLS    := $(TOOLS)/cri-tools-1.36.0
CNIPLUGINS  := $(TOOLS)/cni-plugins-1.8.0

##@ Build

.PHONY: build
build: ## The four binaries, static, into bin/
	mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(GOTAGS) -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

.PHONY: samples
samples: ## The sample guests as Wasm, into bin/samples/
	$(GO) run ./samples/build -o $(BIN)/samples

.PHONY: tools
tools: $(CONTAINERD2)/.stamp $(CONTAINERD1)/.stamp $(SUITE)/.stamp $(CRITOOLS)/.stamp $(CNIPLUGINS)/.stamp $(LINT)/.stamp ## containerd 2.4.2 and 1.7.35, its client suite, critest, the linters

# The same by version, for tests that ask for one.
.PHONY: containerd-2.4.2 containerd-1.7.35 clientsuite critest cni-plugins
clientsuite: $(SUITE)/.stamp
critest: $(CRITOOLS)/.stamp
cni-plugins: $(CNIPLUGINS)/.stamp
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

# A release of Kubernetes knows its version from the linker, and so does what asks it.
KUBEFLAGS := -X k8s.io/component-base/version.gitVersion=v1.36.0 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 -X k8s.io/component-base/version.gitTreeState=clean

# The folder bears the version, so a new one is built beside the old.
kubetool = mkdir -p $(@D) && CGO_ENABLED=0 nice $(GO) -C conformance/tools/$(1) build -trimpath -ldflags '-s -w $(2)' -o $(@D)/ tool && touch $@

$(KUBERNETES)/.stamp: conformance/tools/kubernetes/go.mod conformance/tools/kubernetes/go.sum
	$(call kubetool,kubernetes,$(KUBEFLAGS))
	ln -sfn $(notdir $(@D))/kubectl $(TOOLS)/kubectl
$(HELM)/.stamp: conformance/tools/helm/go.mod conformance/tools/helm/go.sum
	$(call kubetool,helm)
	ln -sfn $(notdir $(@D))/helm $(TOOLS)/helm
$(TOOLS)/etcd-%/.stamp: conformance/tools/etcd/go.mod conformance/tools/etcd/go.sum
	$(call kubetool,etcd)
$(TOOLS)/coredns-%/.stamp: conformance/tools/coredns/go.mod conformance/tools/coredns/go.sum
	$(call kubetool,coredns)
$(TOOLS)/cni-plugins-%/.stamp: conformance/tools/cniplugins/go.mod conformance/tools/cniplugins/go.sum
	$(call kubetool,cniplugins)
$(TOOLS)/metrics-server-%/.stamp: conformance/tools/metricsserver/go.mod conformance/tools/metricsserver/go.sum
	$(call kubetool,metricsserver)
$(CRITOOLS)/.stamp: conformance/tools/critest/go.mod conformance/tools/critest/go.sum
	$(call kubetool,critest)
	# critest is a package of tests only, which go build passes over.
	CGO_ENABLED=0 nice $(GO) -C conformance/tools/critest test -c -trimpath -ldflags '-s -w' -o $(@D)/critest sigs.k8s.io/cri-tools/cmd/critest

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

.PHONY: bench-bpf
bench-bpf: ## What accounting and redirection cost, beside nothing and nftables, as ratios (root)
	$(GO) run ./conformance/bpf $(ARGS)

##@ Test

# Without the race detector: what compiles large Wasm modules in Go, which it slows down thirtyfold, and what
# measures its own time.
NORACE := /runtime/artifact$$|/runtime/engine$$|/shim/launch$$
# Alone, as those of conformance are: what starts daemons and looks for what is left on the host, where other packages
# kill servers.
ALONE  := /shim/install$$|/shim/image(/pack)?$$
# Every run goes on after a failure, and the report has the last word.
RESULTS := $(BIN)/test.json

.PHONY: test
test: deps static ## Everything CI runs
	@$(MAKE) -s --no-print-directory build samples tools kernel guests $(KUBERNETES)/.stamp
	@unit=$$($(GO) list ./... | grep -v /conformance/); \
	$(GO) test -race -json -timeout 10m $$(grep -vE '$(NORACE)|$(ALONE)' <<<"$$unit") > $(RESULTS) || true; \
	$(GO) test -json -timeout 10m $$(grep -E '$(NORACE)' <<<"$$unit") >> $(RESULTS) || true; \
	$(GO) test -race -p 1 -json -timeout 10m $$(grep -E '$(ALONE)' <<<"$$unit") >> $(RESULTS) || true; \
	$(GO) test -p 1 -json -timeout 15m -skip '^$(CHARTTEST)' ./conformance/... >> $(RESULTS) || true; \
	{ $(KERNELTEST) $(KERNELPKG) || true; $(CGROUP2TEST) || true; } | sed 's|"Package":"[^"]*|& on Linux 6.1|' >> $(RESULTS)
	@for t in test-kubernetes test-chart; do \
	  $(MAKE) -s --no-print-directory $$t ARGS=-json >> $(RESULTS) || echo '{"Action":"fail","Package":"make '$$t'"}' >> $(RESULTS); \
	done
	@$(GO) run ./conformance/report < $(RESULTS)

.PHONY: test-unit
test-unit: ## Tests of PKG with the race detector: make test-unit PKG=./shim/... ARGS='-run X -v'
	$(GO) test -race -timeout 10m $(ARGS) $(PKG)

.PHONY: test-containerd
test-containerd: build samples $(CONTAINERD2)/.stamp $(CONTAINERD1)/.stamp ## The cases against real containerd, both versions (root)
	@$(needroot)
	$(GO) test -timeout 15m $(ARGS) ./conformance/containerd/...

.PHONY: test-cri
test-cri: build $(CONTAINERD2)/.stamp $(CRITOOLS)/.stamp $(CNIPLUGINS)/.stamp ## critest with runc and with hachi, side by side (root)
	@$(needroot)
	$(GO) test -count 1 -timeout 25m $(ARGS) ./conformance/cri

# Linux 6.1, the oldest kernel that hachi runs on, in qemu: Debian's cloud kernel, what runs a test in it, its init.
KERNEL := $(BIN)/kernel
$(KERNEL)/vmlinuz: conformance/kernel/fetch.go
	$(GO) run ./conformance/kernel fetch $(KERNEL)

.PHONY: kernel
kernel: $(KERNEL)/vmlinuz
	CGO_ENABLED=0 $(GO) build -o $(KERNEL)/ ./conformance/kernel ./conformance/kernel/init

KERNELPKG = $(if $(filter ./...,$(PKG)),./bpf/... ./internal/probe/... ./runtime/cgroup/...,$(PKG))
KERNELTEST := CGO_ENABLED=0 $(GO) test -count=1 -short -json -timeout 20m -exec '$(KERNEL)/kernel exec'
.PHONY: test-kernel
test-kernel: deps kernel ## The eBPF and cgroup tests in a 6.1 kernel: make test-kernel PKG=./bpf/redirect ARGS='-run X'
	@$(KERNELTEST) $(ARGS) $(KERNELPKG) > $(KERNEL)/test.json || true
	@$(GO) run ./conformance/report < $(KERNEL)/test.json

# What the cases start in that machine, which has no tool chain.
GUESTS := $(BIN)/guests
LINUXGUESTS := conformance/containerd/probe internal/testenv/cni/plugin shim/stdio/testdata/logger
.PHONY: guests
guests: samples
	mkdir -p $(GUESTS)
	for p in $(LINUXGUESTS); do CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(GUESTS)/$${p//\//-}.linux ./$$p; done
	GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -ldflags '-s -w' -o $(GUESTS)/conformance-containerd-probe.wasm ./conformance/containerd/probe
	cp $(BIN)/samples/trap.wasm $(GUESTS)/samples-hostile-trap.wasm

comma := ,
space := $(subst ,, )
CGROUP2KUBELET := $(KUBERNETES:$(CURDIR)/%=%)/kubelet
CGROUP2WITH := $(subst $(space),$(comma),bin/containerd-shim-hachi-v1 bin/hachi-shim bin/hachi-engine bin/hachi-linux bin/hachi bin/samples bin/guests bin/tools/containerd-2.4.2 $(CGROUP2KUBELET))
CGROUP2RUN  := TestTable|TestPod$$|TestPodBelowSlice|TestPodOutOfMemory|TestPodSurvivesContainerdRestart|TestKubelet
CGROUP2TEST := CGO_ENABLED=0 $(GO) test -count=1 -json -timeout 10m -exec '$(KERNEL)/kernel exec -host runc -with $(CGROUP2WITH)' \
  -run '$(CGROUP2RUN)' ./conformance/containerd -versions 2.4.2 -kinds wasm -kubelet $(CGROUP2KUBELET)
.PHONY: test-cgroup2
test-cgroup2: deps kernel build samples guests $(CONTAINERD2)/.stamp $(KUBERNETES)/.stamp ## The cases under containerd 2.4.2 on a host with cgroup2 alone, which is that machine
	@$(CGROUP2TEST) $(ARGS) > $(KERNEL)/cgroup2.json || true
	@$(GO) run ./conformance/report < $(KERNEL)/cgroup2.json

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (10s)
	@$(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | while read -r pkg; do \
	  $(GO) test -run '^$$' -list '^Fuzz' "$$pkg" | { grep '^Fuzz' || true; } | while read -r target; do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null; \
	  done; \
	done

# What the tests use beside Go: a C compiler for Wasm guests, runc to compare with, ip for namespaces.
DEBS := runc clang lld wasi-libc libclang-rt-14-dev-wasm32 iproute2 gcc libc6-dev busybox-static nftables libbpf-dev binutils qemu-system-x86 mariadb-server rustc libstd-rust-dev-wasm32

.PHONY: deps
deps: ## Install what the tests need and is missing (Debian, root)
	@missing=$$(for p in $(DEBS); do dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	[ -z "$$missing" ] && exit 0; missing=$$(echo $$missing); \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "make deps: not installed: $$missing (tests that need them are skipped and say so)"; exit 0; \
	fi; \
	echo "make deps: installing $$missing"; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing

##@ Kubernetes

NODES ?= 1
# HACHI=no: nodes know nothing of hachi, for trying an installer.
HACHI ?= yes

.PHONY: cluster
cluster: ## A real Kubernetes cluster on this machine, in the background: NODES=2, HACHI=no (root)
	@$(needroot)
	@$(MAKE) -s --no-print-directory deps build $(CONTAINERD2)/.stamp $(KUBETOOLS:=/.stamp)
	@cd conformance/kubernetes && CGO_ENABLED=0 $(GO) build -trimpath -o $(TOOLS)/cluster .
	@$(TOOLS)/cluster up -nodes $(NODES) -hachi=$(if $(filter no,$(HACHI)),false,true)

.PHONY: cluster-down
cluster-down: ## Remove every trace of it, also after a crash (root)
	@cd conformance/kubernetes && CGO_ENABLED=0 $(GO) build -trimpath -o $(TOOLS)/cluster .
	@$(TOOLS)/cluster down

# The image of the chart's pods. REGISTRY=localhost:5050 also pushes it there, as hachi-node:IMAGETAG.
REGISTRY ?=
IMAGETAG ?= $(subst +,-,$(VERSION))

.PHONY: image
image: build ## The chart's image into bin/hachi-node.tar: REGISTRY=localhost:5050 pushes it
	$(GO) run -ldflags '$(LDFLAGS)' ./charts/image -o $(BIN)/hachi-node.tar -name ghcr.io/hachi-run/hachi-node:$(IMAGETAG) \
	  $(if $(REGISTRY),-push $(REGISTRY)/hachi-node:$(IMAGETAG)) $$($(GO) env GOARCH)=$(BIN)

.PHONY: helm-4.0.1
helm-4.0.1: $(HELM)/.stamp

.PHONY: chart-lint
chart-lint: $(HELM)/.stamp ## helm lint, and the chart's templates against what they were
	$(HELM)/helm lint --strict charts/hachi
	$(GO) test -count 1 $(ARGS) ./conformance/chart/...

CHARTTEST := TestCluster
.PHONY: test-chart
test-chart: ## The chart's life in a cluster of its own: install, upgrade, uninstall (root)
	@$(needroot)
	@trap '$(MAKE) -s --no-print-directory cluster-down >&2' EXIT; \
	$(MAKE) -s --no-print-directory cluster HACHI=no > $(BIN)/test-chart.log; \
	export $$(tail -n 2 $(BIN)/test-chart.log); \
	$(GO) test -count 1 -timeout 20m -run '^$(CHARTTEST)' $(ARGS) ./conformance/chart

.PHONY: test-kubernetes
test-kubernetes: ## What pods of a cluster do, against runc: ARGS='-run TestLogs -v' (root)
	@$(needroot)
	@$(MAKE) -s --no-print-directory deps build $(CONTAINERD2)/.stamp $(KUBETOOLS:=/.stamp) >&2
	@cd conformance/kubernetes && CGO_ENABLED=0 $(GO) build -trimpath -o $(TOOLS)/cluster . && \
	  CGO_ENABLED=0 $(GO) test -p 1 -trimpath -count 1 -timeout 25m $(ARGS) ./...

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
	$(GO) -C conformance/kubernetes vet ./...
	GOOS=wasip1 GOARCH=wasm $(GO) vet $$($(GO) list ./samples/... | grep -v /samples/build)

.PHONY: lint
lint: $(LINT)/.stamp ## The linters of .golangci.yml
	$(LINT)/golangci-lint run
	cd conformance/kubernetes && $(LINT)/golangci-lint run -c $(CURDIR)/.golangci.yml

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
