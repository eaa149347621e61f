# Everything a person or a machine does with this tree. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Go's usual place, for shells whose PATH lacks it; what the tests start finds it too.
export PATH := $(PATH):/usr/local/go/bin
GO := $(shell PATH="$(PATH)" command -v go)

# Go wants a home for its caches; a service manager may start us without one.
ifeq ($(HOME),)
export HOME := $(or $(shell getent passwd $$(id -u) | cut -d: -f6),/tmp)
endif

# The version is stamped by us; Go's own stamp fails in a clone that belongs to another user.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
VERSION := $(or $(shell git describe --always --dirty --tags 2>/dev/null),devel)

LINT := $(GO) tool -modfile=tools/go.mod golangci-lint

# What `make test` looks at, and how: make test PKG=./internal/queue TESTFLAGS='-run Crash -v'
PKG ?= ./...
TESTFLAGS ?=
# How long each fuzz target runs, and which: make fuzz FUZZTIME=10m FUZZ=snap
FUZZTIME ?= 60s
FUZZ ?= .
# Which rows of the packages' test: make package-test ROWS=power
ROWS ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^##@ / {print "\n" substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: go
go:
	@case "$$([ -z '$(GO)' ] || '$(GO)' env GOVERSION)" in \
	"") echo "make: Go is missing; unpack Go 1.26 or newer from https://go.dev/dl/ to /usr/local/go" >&2; exit 1 ;; \
	go1.?|go1.?.*|go1.1*|go1.20*) echo "make: $(GO) is too old for this tree; take Go 1.26 or newer from https://go.dev/dl/ and put it first in PATH" >&2; exit 1 ;; \
	esac

##@ The product

.PHONY: demo
demo: go deps ## The whole product on this machine, with a software token and a sandbox; Ctrl-C ends it
	@$(GO) run ./cmd/demo up

.PHONY: demo-check
demo-check: go deps ## The same without a person: all operations, offline and online, one line each
	@$(GO) run ./cmd/demo check

.PHONY: demo-clean
demo-clean: go ## Remove what the demo left on the disk
	@$(GO) run ./cmd/demo clean

.PHONY: build
build: go deps ## Build bin/gardu for this machine (with its token worker, so not static)
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags '-s -w -buildid= -X main.version=$(VERSION)' -o bin/gardu ./cmd/agent

# The compilers of Debian 11 are unpacked once and kept; see packaging/release/toolchain.sh.
TOOLCHAIN := build/toolchain

.PHONY: release
release: go deps-release ## Build build/release: gardu for amd64 and arm64, static, the same bytes everywhere
	@packaging/release/build.sh build/release $(TOOLCHAIN) '$(VERSION)'

.PHONY: release-repro
release-repro: go deps-release ## Build it twice in two folders and compare (ten minutes)
	@packaging/release/repro.sh $(TOOLCHAIN) '$(VERSION)'

.PHONY: release-test
release-test: release ## Run it on Debian 11, 12 and 13, and emulated on arm64 (root; ten minutes)
	@tools/deps.sh debootstrap qemu-user-static
	@packaging/release/test-debians.sh build/release build/debians

.PHONY: package
package: release ## Build build/packages: deb and rpm for amd64 and arm64, the same bytes everywhere
	@packaging/package.sh build/packages '$(VERSION)'

.PHONY: package-test
package-test: release ## Install, update, break, cut the power, roll back and purge in a container (root; ROWS= picks)
	@tools/deps.sh debootstrap systemd-container strace
	@packaging/test.sh -rows '$(ROWS)'

.PHONY: package-test-arm64
package-test-arm64: package ## Install, ask and purge the arm64 deb in an emulated Debian 12 (root; ten minutes)
	@tools/deps.sh debootstrap qemu-user-static
	@packaging/test-arm64.sh build/packages build/debians

.PHONY: deps-release
deps-release:
	@tools/deps.sh binutils file debian-archive-keyring

.PHONY: deps
deps: ## Install what is missing: compiler, SoftHSM, tools of the tests (Debian; root or sudo)
	@tools/deps.sh gcc libc6-dev softhsm2 opensc opensc-pkcs11 openssl ca-certificates strace

# The signatures are compared with those of an npm package; wherever its node comes from will do.
.PHONY: deps-node
deps-node:
	@command -v node >/dev/null && command -v npm >/dev/null || tools/deps.sh nodejs npm

.PHONY: deps-e2e
deps-e2e: deps ## Likewise, and a browser
	@tools/deps.sh chromium

##@ Checks

# Results that nothing has touched may come from Go's cache, but where CI is set every test runs.
.PHONY: test
test: go deps deps-node ## Run every test with the race detector (PKG=, TESTFLAGS=)
	CGO_ENABLED=1 $(GO) test -race -timeout 10m $(if $(CI),-count=1) $(TESTFLAGS) $(PKG)

.PHONY: stress
stress: go deps deps-node ## The tests in COPIES (3) at once, each stopped for moments: what chance decides fails (PKG=)
	@tools/stress.sh '$(PKG)' '$(or $(COPIES),3)'

# The first run compiles Go's library anew: some minutes.
.PHONY: test-erasing
test-erasing: go deps ## The way of a PIN in a program that erases stack and registers (GOEXPERIMENT=runtimesecret)
	GOEXPERIMENT=runtimesecret $(GO) test -timeout 5m -count=1 ./internal/secret ./internal/prepaid

.PHONY: lint
lint: go deps ## Formatting, go vet, and the linters of .golangci.yml
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l cmd internal); \
	if [ -n "$$unformatted" ]; then printf 'lint: not formatted; run gofmt -w on:\n%s\n' "$$unformatted" >&2; exit 1; fi
	$(GO) vet -tags e2e ./...
	$(LINT) run ./...

.PHONY: fuzz
fuzz: go deps ## Run every fuzz target for FUZZTIME (60s), one line each (FUZZ= picks)
	@tools/fuzz.sh '$(FUZZTIME)' '$(FUZZ)'

.PHONY: e2e
e2e: go deps-e2e ## The screen in a real browser: every state, pictures in build/screens
	@tools/browser.sh

.PHONY: e2e-short
e2e-short: go deps-e2e ## The same without what only repeats on another size (three minutes)
	@tools/browser.sh -short

# After a text of the screen changed. The clips are committed.
.PHONY: speech
speech: go ## Speak the screen's texts anew, those that changed
	@tools/deps.sh espeak-ng opus-tools
	@$(GO) test ./internal/ui -run TestEveryTextIsSpoken -count=1 -v -args -update

# Loop devices, FUSE and strace: what is missing here is skipped, and counted.
.PHONY: crash
crash: go deps ## Kill it, cut its power, fail its disk: 100 kills and more in three minutes
	@tools/deps.sh strace e2fsprogs mount
	@$(GO) run ./cmd/crash short

.PHONY: crash-long
crash-long: go deps ## The same with 2,000 kills and 200 power cuts
	@tools/deps.sh strace e2fsprogs mount
	@$(GO) run ./cmd/crash long

.PHONY: bench
bench: go deps ## Figures against a reference, one BENCH line each
	@tools/figures.sh

# Whose token: GARDU_TEST_MODULE, GARDU_TEST_TOKEN, GARDU_TEST_PIN, GARDU_TEST_INIT_RESERVED, GARDU_TEST_ENV; see docs/tokens.md.
.PHONY: test-token
test-token: go deps ## What a token of your own can and cannot do, role by role (docs/tokens.md)
	@CGO_ENABLED=1 $(GO) test -count=1 -timeout 30m -run '^TestTokenConformance$$' -v ./internal/keystore | sed -n '/^=== /d; /^ *--- PASS/d; /^PASS$$/d; p'
