# What to run, and how. `make` alone lists it.
GO ?= go
.DEFAULT_GOAL := help

# Everything that needs Postgres runs beside one throwaway server, which withpg starts and names in TEST_DATABASE_URL.
WITHPG := .tmp/withpg --

# The race detector needs a C compiler and triples the time of tests that compute a lot.
RACE := $(shell command -v gcc >/dev/null 2>&1 && echo -race)

# Arguments for go test, for example: make test TESTFLAGS='-run TestPromise5 -v' PACKAGES=./sync/...
TESTFLAGS ?=
PACKAGES ?= ./...
FUZZTIME ?= 30s
BENCHROUNDS ?= 5
CREATES ?= 1000
SEEDS ?= 1000
FIRST ?= 1
SCALE ?= 2
ROUNDS ?= 100

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: ## show it all: LeadGrid (a stand-in), Postgres, receiver and worker; Ctrl-C ends it (or DEMO_SECONDS=n)
	@echo "building the programs (a minute or two the first time) …"
	@$(GO) build -o .tmp/demo/ ./cmd/receiver ./cmd/worker ./cmd/sandbox/demo
	@.tmp/demo/demo

# The simulators compute for minutes under the race detector, and the crash tests run programs: the code meets it in other tests.
# Not from the cache: tests build programs that go knows nothing of. More packages at once than processors, as many wait.
.PHONY: test
test: withpg ## run all tests, on a Postgres of their own
	@set -e; proofs='/(internal/simulate|internal/crash|sync/budget)$$'; all=$$($(GO) list $(PACKAGES)); \
	rest=$$(echo "$$all" | grep -vE "$$proofs" || true); proofs=$$(echo "$$all" | grep -E "$$proofs" || true); \
	if [ -n "$$rest" ]; then $(WITHPG) $(GO) test $(RACE) -count=1 -p 3 $(TESTFLAGS) $$rest; fi; \
	if [ -n "$$proofs" ]; then $(WITHPG) $(GO) test -count=1 -p 3 $(TESTFLAGS) $$proofs; fi

.PHONY: lint
lint: ## check style, likely mistakes and who imports whom
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...

.PHONY: bench
bench: ## measure against the naive way and the ceiling, in turn; writes docs/performance.md and its chart
	cd tools && $(GO) run ./bench -rounds $(BENCHROUNDS) $(BENCH)

.PHONY: profile
profile: ## profile receiver and sweep under load, and show where the time goes; .tmp/profile is for go tool pprof
	@mkdir -p .tmp/profile
	RECEIVER_BENCH_PROFILE=$(CURDIR)/.tmp/profile $(GO) test ./cmd/receiver -run '^$$' -bench 'Receiver/connections=64$$' -benchtime 3x
	$(GO) test ./sync/sweep -run '^$$' -bench Sweep -benchtime 3x -o .tmp/profile/sweep.test \
		-cpuprofile .tmp/profile/sweep.pprof -memprofile .tmp/profile/sweep-memory.pprof
	@for profile in ours sweep; do echo; echo "$$profile"; $(GO) tool pprof -top -nodecount 20 .tmp/profile/$$profile.pprof; done

.PHONY: simulate
simulate: withpg ## simulate SEEDS seeds, from FIRST on, of SCALE times as much as in make test
	$(WITHPG) $(GO) test ./internal/simulate -run TestSimulate -seeds $(SEEDS) -first $(FIRST) -scale $(SCALE) -timeout 0 $(TESTFLAGS)

.PHONY: crash
crash: ## kill -9 the programs and Postgres at random moments, for ROUNDS rounds, and play every kind of network
	$(GO) test ./internal/crash -rounds $(ROUNDS) -long -v -timeout 0 $(TESTFLAGS)

.PHONY: versions
versions: ## have the worker OTHER, of another version, and this one go on with each other's sweeps
	$(GO) test -tags versions ./internal/crash -run AnotherVersion -other "$(abspath $(OTHER))" -v -timeout 0 $(TESTFLAGS)

.PHONY: crash-writeback
crash-writeback: withpg ## send CREATES creates while answers are lost and workers killed, and hold them against LeadGrid's ledger
	WRITEBACK_CREATES=$(CREATES) $(WITHPG) $(GO) test ./sync/writeback -run TestPromise10_CreatedOnceOrFlagged -v -timeout 0 $(TESTFLAGS)

.PHONY: faults
faults: withpg ## plant defects one by one, and show which check catches each
	$(WITHPG) $(GO) run ./internal/simulate/faults $(FAULTS)

.PHONY: fuzz
fuzz: withpg ## run each fuzz test for FUZZTIME
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/p' "$$file"); do \
			echo "$$(dirname "$$file"): $$name"; \
			$(WITHPG) $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
		done; \
	done

.PHONY: browser
browser: withpg ## look at the status page in chromium (needs node and chromium); screenshots go to .tmp/browser
	@mkdir -p .tmp/browser && cd .tmp/browser && { [ -d node_modules/playwright-core ] || npm install --silent --no-save --prefix . playwright-core@1.64.1; }
	BROWSER=$(CURDIR)/.tmp/browser $(WITHPG) $(GO) test -count=1 -tags browser -run InABrowser $(TESTFLAGS) ./cmd/worker

# In a module of its own, as Kubernetes', Helm's and Prometheus' code is large: the first run builds helm, promtool and helm-docs, which
# takes minutes; HELM=path and the like use those that are there. UPDATE=1 renders anew what is made from the chart.
.PHONY: chart
chart: ## check the Helm chart, the alerts, the dashboards and compose.yaml
	cd charts && $(GO) vet -tags scrape,cluster ./... && $(GO) test -timeout 30m ./...

# A Prometheus in PATH is used, or the one that PROMETHEUS names; otherwise it is built, which takes minutes.
.PHONY: scrape
scrape: ## let a real Prometheus scrape the demo, and hold what it gets against docs/metrics.md, dashboards and alerts
	cd charts && $(GO) test -tags scrape -count=1 -v -timeout 30m ./scrape $(TESTFLAGS)

# The first run builds etcd and Kubernetes' API server and controllers, which takes ten minutes and more; ETCD, KUBE_APISERVER and
# KUBE_CONTROLLER_MANAGER may name ones that are there.
.PHONY: cluster
cluster: withpg ## install, test, upgrade and roll back the chart on a real Kubernetes API server, while webhooks come
	cd charts && ../$(WITHPG) $(GO) test -tags cluster -count=1 -v -timeout 60m ./cluster $(TESTFLAGS)

.PHONY: withpg
withpg:
	@$(GO) build -o .tmp/withpg ./internal/postgres/withpg
