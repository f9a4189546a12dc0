# Everything is built below bin/. `make tools` takes minutes the first time and
# nothing after that.

SHELL := /bin/bash

# Without debugging symbols, which also keeps the linker short.
LDFLAGS := -s -w

.PHONY: tools build failpoints lab

# tools builds what the lab runs: etcd, kube-apiserver and kwok; and kube-scheduler.
tools:
	@e2e/tools.sh

# build builds the product.
build:
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o bin/understudy ./cmd/understudy

# failpoints builds the product with places where drills make it die or hang.
failpoints:
	@mkdir -p bin
	go build -tags failpoints -ldflags '$(LDFLAGS)' -o bin/understudy-failpoints ./cmd/understudy

# lab builds the command that runs a control plane with replicas on this machine.
lab:
	@mkdir -p bin
	cd e2e && go build -ldflags '$(LDFLAGS)' -o ../bin/lab ./cmd/lab

.DEFAULT_GOAL := help
.PHONY: help demo test again drills soak histories managers peers bench-check vet lint jaeger fuzz clean

# step runs a command, and says before what it is and after how long it took.
step = @start=$$SECONDS; echo "==> $(1)"; $(2) && echo "==> $(1): done in $$((SECONDS - start)) s"

# demo shows three replicas that lose their lead and carry on with nothing lost.
demo: tools build lab
	bin/lab demo

# The tests on the real control plane run binaries, of whose changes Go's test
# cache knows nothing.
UNCACHED := -count=1

# These tests mostly wait, for a Lease or for patience to run out: three side by side
# keep two cores busy.
SIDE_BY_SIDE := -parallel 3

# test passes the tests: of every package with the race detector, then on a
# real control plane.
test: vet tools build lab
	$(call step,tests of the packages,go test -race -timeout 20m ./...)
	$(call step,tests over which the core races with itself,go test -run 'TestEnginesAgree|TestAHeldEngineLoses|TestAQueue|TestWhereAnApplication|TestHousing|TestAnApplicationThatIsRefused|TestLogLevel|TestConfigurationIsReloaded' -timeout 10m ./coordinator/engine)
	$(call step,a short soak and some histories,go test -run '^Test(Soak|Histories)$$' ./coordinator)
	$(call step,tests on the real control plane,cd e2e && go test $(UNCACHED) $(SIDE_BY_SIDE) -p 1 -timeout 60m ./...)

TIMES ?= 8
PACKAGES ?= ./...

# again passes the tests of PACKAGES of the main module TIMES (8) times, all anew, with the
# race detector: random tests that fail rarely. It says what has failed in the end.
again: tools
	@failed=(); start=$$SECONDS; for i in $$(seq $(TIMES)); do \
	  echo "==> round $$i of $(TIMES)"; \
	  go test -count=1 -race -timeout 20m $(PACKAGES) || failed+=($$i); \
	done; \
	echo "==> again: $(TIMES) rounds in $$((SECONDS - start)) s, failed:" $${failed[*]:-none}; \
	test $${#failed[@]} -eq 0

LONG := slow-apiserver-long slow-lease-long busy-host-long
HANGS := hang-loop hang-core hang-binder hang-manager cut-from-etcd-after-acquire relabel contradictions
RESULTS ?= e2e/results

# drills takes hours: it repeats faults that CI does once, and does the long ones.
drills: tools build failpoints lab
	@mkdir -p $(RESULTS)
	@set -e; for name in $(HANGS); do bin/lab drill $$name --repeat 20 --node-cpu 128 --output json >$(RESULTS)/drill-$$name.json; done; \
	for name in $(LONG); do bin/lab drill $$name --output json >$(RESULTS)/drill-$$name.json; done

# soak replaces 10,000 nodes and lets 200,000 pods come and go below two replicas, which
# have to end with the memory that they had after a tenth of it.
soak: tools
	$(call step,soak,go test $(UNCACHED) -v -run '^TestSoak$$' -timeout 120m ./coordinator -args -soak.nodes 10000 -soak.pods 200000 -soak.app 10)

# histories has anything happen to 300 clusters, at random, while their replicas are killed.
histories: tools
	$(call step,histories,go test $(UNCACHED) -v -run '^TestHistories$$' -timeout 180m ./coordinator -args -histories.n 300)

# managers measures app managers with 2,000 SparkApplications and 2,000 RayJobs, whose
# statuses are updated 100 times a second.
managers: tools build lab
	@mkdir -p $(RESULTS)
	bin/lab bench managers --nodes 20 >$(RESULTS)/managers.json

# peers compares Understudy with a null binder and with kube-scheduler: see docs/performance.md.
peers: tools build lab
	@mkdir -p $(RESULTS)
	bin/lab bench peers --peers null,kube-scheduler,understudy-1,understudy-3 --scenario burst,drain --results $(RESULTS)

# bench-check compares the benchmarks of the hot path with those of the commit in
# tools/baseline, or of BASE, and fails if any makes more allocations.
bench-check:
	$(call step,benchmarks before and now,tools/bench-check.sh $(BASE))

# vet looks for suspicious code in both modules.
vet:
	$(call step,go vet,go vet ./... && cd e2e && go vet ./...)

# lint runs golangci-lint on both modules, and builds it first if needed.
lint: bin/golangci-lint
	$(call step,golangci-lint,bin/golangci-lint run ./... && cd e2e && ../bin/golangci-lint run --config ../.golangci.yml ./...)

bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	@mkdir -p bin
	$(call step,building golangci-lint: some minutes the first time,cd tools/lint && go build -ldflags '$(LDFLAGS)' -o ../../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

# jaeger builds bin/jaeger, to look at traces with: see docs/traces.md.
jaeger: bin/jaeger

bin/jaeger: tools/jaeger/go.mod tools/jaeger/go.sum
	@mkdir -p bin
	$(call step,building Jaeger: some minutes the first time,cd tools/jaeger && go build -ldflags '$(LDFLAGS)' -o ../../bin/jaeger github.com/jaegertracing/jaeger/cmd/jaeger)

FUZZTIME ?= 30s

# fuzz runs every fuzz target for FUZZTIME (30s).
fuzz:
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
	  for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
	    echo "==> $$name in $$(dirname $$file) for $(FUZZTIME)"; \
	    (cd $$(dirname $$file) && go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) .); \
	  done; \
	done

# clean removes what was built, the tools among it.
clean:
	rm -rf bin

# help lists the targets.
help:
	@awk '/^# / { text = text (text ? " " : "") substr($$0, 3); next } \
	  match($$0, /^[a-z-]+:/) { name = substr($$0, 1, RLENGTH - 1); \
	    if (index(text, name " ") == 1) printf "make %-11s %s\n", name, substr(text, length(name) + 2) } \
	  { text = "" }' $(MAKEFILE_LIST)
