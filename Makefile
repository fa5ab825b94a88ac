# make without a target says what there is.

GO ?= go
# Tools are pinned in a module of their own; see tools/go.mod.
TOOL = $(GO) tool -modfile=tools/go.mod
# Where scripts/test-deps puts a newer node, if the machine needs one.
export PATH := $(CURDIR)/.tools/node/bin:$(PATH)

.PHONY: help dev build test deps check bench soak compat lint vuln fmt
.DEFAULT_GOAL := help

help: ## say what the targets do
	@awk -F ': .*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: ## run a sandbox; ARGS="--listen …" for its flags
	$(GO) run ./cmd/meterd dev $(ARGS)

build: ## build bin/meterd, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/meterd ./cmd/meterd

# What touches a store is tested on both, and on a second version of PostgreSQL.
ON_POSTGRES = ./internal/ledger ./internal/sandbox ./internal/server ./meterdtest ./cmd/meterd

# The race detector makes SQLite five times slower, so most power cuts and failures go without it.
test: deps check ## run all checks and tests; installs what they need
	$(GO) test -race -timeout 30m ./...
	$(GO) test -C deploy -timeout 30m ./...
	METERD_TEST_POWER_CUTS=1000 $(GO) test -timeout 30m -run '^Test((PowerCut|FailingDisk)(Migrating)?|FailedSync)$$' ./internal/store
	METERD_TEST_STORE=postgres $(GO) test -race -timeout 30m $(ON_POSTGRES)
	@if test -e .tools/postgresql-18; then set -x; \
	METERD_TEST_POSTGRES_VERSION=18 METERD_TEST_STORE=postgres $(GO) test -race -timeout 30m -skip '^Test(PowerCut|FailingDisk|FailedSync)' ./internal/store ./meterdtest; fi

deps: ## install what the tests need (Debian: apt-get and npm)
	@scripts/test-deps

check: ## gofmt, go vet, staticcheck, and builds for other systems
	@files="$$(gofmt -l .)"; test -z "$$files" || { echo "not formatted, run make fmt:"; echo "$$files"; exit 1; } >&2
	$(GO) vet -tags soak ./...
	$(GO) vet -C deploy ./...
	$(TOOL) staticcheck -tags soak ./...
	cd deploy && $(GO) tool -modfile=../tools/go.mod staticcheck ./...
	for os in darwin freebsd windows; do GOOS=$$os CGO_ENABLED=0 $(GO) build ./cmd/meterd ./meterdtest || exit; done

bench: ## measure speed; ARGS="-against COMMIT" compares two builds
	$(GO) run ./internal/bench $(ARGS)

soak: ## kill it under load ROUNDS times (100), cut its power CUTS times (10000) and its disk's DISK_CUTS times (200), fuzz for FUZZTIME (1m each)
	@scripts/soak

compat: ## run the client tests with the newest boto3 and AWS CLI
	@scripts/compat

lint: ## golangci-lint (takes minutes to build the first time)
	$(TOOL) golangci-lint run ./...

vuln: ## look for known vulnerabilities (asks vuln.go.dev)
	$(TOOL) govulncheck ./...

fmt: ## format all Go files
	gofmt -w .
