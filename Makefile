# "make" lists the targets. A Go toolchain, make and git are enough for build, demo,
# test and bench; check also wants a C compiler for the race detector.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
ZLINT       := github.com/zmap/zlint/v3/cmd/zlint@v3.7.3
VULNDB      ?= $(wildcard ../shared/vulndb)
FUZZTIME    ?= 2s
PLATFORMS   := linux/amd64 linux/arm64 darwin/arm64 windows/amd64
BENCHFLAGS  ?= --publishers 4 --consumers 4 --duration 5s

# The product has no cgo. The race detector alone turns it on again.
export CGO_ENABLED := 0
# Where the tree lies does not get into the program. The tests build the program too: with the
# same flags everywhere each package is compiled once.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)

.PHONY: help build man demo test screenshots pictures bench check fmt vet generated staticcheck vuln lint-certs cross race fuzz crash mutation

help: ## list the targets
	@echo "SealMQ. Targets:"; echo
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1 - \2/p' Makefile
	@echo; echo "  make demo ONCE=1 ends by itself; make bench BENCHFLAGS='...' passes flags on"

build: ## build bin/sealmq
	$(GO) build -o bin/sealmq ./cmd/sealmq

man: build ## write manual pages into bin/man1
	./bin/sealmq man bin/man1

demo: build ## sealed letters through a broker, and messages over HTTPS to the database, with crashes on the way
	./bin/sealmq demo $(if $(ONCE),--once)

# Many tests mostly wait, so more of them run at once than there are processors; "vet" is a target
# of its own. Tests have small heaps: collecting garbage less often spares a quarter of the
# processor time.
GOTEST := GOGC=400 $(GO) test -timeout 20m -vet off -p 3 -parallel 4

test: ## run the tests
	$(GOTEST) ./...

screenshots: ## write pictures of every page of the portal into bin/screenshots
	SCREENSHOTS="$(CURDIR)/bin/screenshots" $(GO) test -count=1 -run TestEveryPage ./portal/browser

pictures: ## take the pictures of docs/portal.md again
	PICTURES="$(CURDIR)/docs/pictures" $(GO) test -count=1 -run TestPictures ./portal/browser

bench: build ## measure a broker of its own on this disk
	./bin/sealmq bench --dir . $(BENCHFLAGS)

check: fmt vet generated staticcheck vuln lint-certs cross race fuzz crash ## everything that continuous integration runs besides the tests
	@echo "check: passed"

fmt: ## are all files formatted?
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "gofmt would change:"; echo "$$files"; exit 1; }

vet: ## go vet
	$(GO) vet ./...

generated: ## is the generated code what openapi.yaml gives?
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; cp -R api "$$before"; \
		$(GO) generate ./api && { diff -r "$$before/api" api || { echo "go generate changed these files: commit them"; exit 1; }; }

staticcheck: ## static analysis
	$(GO) run $(STATICCHECK) ./...

vuln: ## known vulnerabilities in what the binary reaches
	@GO="$(GO)" sh .ci/vuln "$(GOVULNCHECK)" "$(VULNDB)"

lint-certs: ## check the authority's certificates and CRLs against RFC 5280
	@GO="$(GO)" sh .ci/lint-certs "$(ZLINT)"

# Whether it builds is all that counts: without inlining and without symbols for a debugger it takes two thirds of
# the time. "test" has built the program for the platform that this runs on.
cross: ## build for every other platform
	@set -e; for p in $(filter-out $(shell $(GO) env GOHOSTOS)/$(shell $(GO) env GOHOSTARCH),$(PLATFORMS)); do echo "build $$p"; \
		GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -gcflags=all='-l -dwarf=false' -ldflags=-w -o /dev/null ./...; done

# The translated C code of SQLite is not ours; watching it would double the time that the tests of the records take.
race: ## run the tests with the race detector, exhaustive ones in their short form
	CGO_ENABLED=1 $(GOTEST) -race -gcflags=modernc.org/sqlite/lib=-race=false -short ./...

fuzz: ## run every fuzz target for FUZZTIME
	@GO="$(GO)" sh .ci/fuzz $(FUZZTIME)

crash: ## kill brokers and cut their power, more often than the tests do
	$(GO) test -count=1 -v -run 'Power|Kill' ./internal/testing/crash -kills 30 -cuts 30

mutation: ## break the product in many ways, each of which a test must notice (test tries three)
	nice $(GO) test -count=1 -timeout 90m -v ./internal/testing/mutation -all
