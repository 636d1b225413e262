# make help lists the targets.
SHELL       := /bin/bash
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -s -w -X main.version=$(VERSION)
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
CYCLONEDX   := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTEST      := go test -race -timeout 40m
FUZZTIME    ?= 20s
BENCHTIME   ?= 1s
N           ?= 200
PREFIX      ?= /usr/local
# Of the gate: no look-up of the network holds it for longer.
NETWORK     ?= 180

.PHONY: help build cross deb install demo check test nightly arm qemu fleet lint licences vuln sbom bench bench-device fuzz torture clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/tidemill-agent and bin/tidemill-bridge, static
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/tidemill-agent ./agent
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/tidemill-bridge ./bridge

cross: ## the agent for arm64 and ARMv6, with sizes
	@mkdir -p bin
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/tidemill-agent-linux-arm64 ./agent
	GOOS=linux GOARCH=arm GOARM=6 CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS) -R 16384' -o bin/tidemill-agent-linux-armv6 ./agent
	@stat -c '%s bytes  %n' bin/tidemill-agent-linux-arm64 bin/tidemill-agent-linux-armv6
	@test $$(stat -c %s bin/tidemill-agent-linux-armv6) -le 11000000 || { echo 'the agent for ARMv6 is above 11 MB'; exit 1; }

deb: ## bin/*.deb: both programs for arm64, armhf (ARMv6) and amd64; ARCH=armhf for one
	@go run ./deploy/packaging -version '$(VERSION)' -arch '$(or $(ARCH),arm64,armhf,amd64)' -out bin

# What make cross has built is for the kits of devices. A unit starts the programs of this PREFIX.
install: ## programs and units below PREFIX (/usr/local), with DESTDIR before it
	@test -x bin/tidemill-bridge -a -x bin/tidemill-agent || $(MAKE) build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/tidemill
	install -m 755 bin/tidemill-agent bin/tidemill-bridge $(DESTDIR)$(PREFIX)/bin
	for f in bin/tidemill-agent-linux-*; do if [ -f $$f ]; then install -m 755 $$f $(DESTDIR)$(PREFIX)/lib/tidemill; fi; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/sysusers.d
	for f in deploy/systemd/*.service deploy/systemd/*.timer; do \
	  sed 's|/usr/bin/tidemill|$(PREFIX)/bin/tidemill|' $$f > $(DESTDIR)$(PREFIX)/lib/systemd/system/$${f##*/} || exit 1; done
	install -m 644 deploy/systemd/tidemill.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/tidemill.conf

demo: build ## bridge and three agents on this machine; DEMO_SECONDS=30 ends it by itself
	@go build -o bin/demo ./deploy/demo
	@exec bin/demo -bin bin -seconds '$(or $(DEMO_SECONDS),0)'

check: lint ## lint and the short tests: two minutes once built
	go test -short -timeout 5m ./...

test: lint licences vuln ## lint, licences and every test under the race detector
	$(GOTEST) ./...

# What imports deploy/nightly has a long version, of ten times the kills, cases or
# bytes. And every fuzz target for a while.
nightly: test ## before an issue is resolved: the long versions too
	TIDEMILL_NIGHTLY=1 go test -race -count=1 -timeout 120m $$(grep -rlE --include='*_test.go' \
	  'TIDEMILL_NIGHTLY|tidemill/deploy/nightly' agent bridge deploy hal shadow | xargs -n1 dirname | sort -u | sed 's|^|./|')
	$(MAKE) fuzz

# The emulators come from Debian's qemu-user-static, kept in the user's cache where it
# is not installed. Tests that start themselves again as a child cannot, without binfmt.
arm: ## the device's tests on emulated arm64 and ARMv6
	@for a in arm64 arm; do e=$$(go run ./deploy/qemu emulator $$a) && \
	  GOARCH=$$a GOARM=6 CGO_ENABLED=0 go test -exec "$$e" -skip '^(TestCrash|TestKill)$$' \
	    ./agent/... ./hal/... ./shadow/... || exit 1; done

qemu: ## a simulated Raspberry Pi on a real kernel; BOARD=raspi0 is an ARMv6, SECONDS=60 ends it by itself
	@mkdir -p bin && go build -o bin/qemu ./deploy/qemu
	@exec bin/qemu run -board '$(or $(BOARD),raspi3b)' -seconds '$(or $(SECONDS),0)'

fleet: build ## DEVICES=100 simulated devices and a bridge on this machine; SECONDS=60 ends them by itself
	@go build -o bin/fleet ./deploy/fleet
	@exec bin/fleet -bridge bin -devices '$(or $(DEVICES),100)' -for '$(or $(SECONDS),0)s'

lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l agent bridge deploy hal shadow); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

licences: ## each module, and all that tests fetch, comes under a permissive licence
	@go run ./deploy/licences

vuln: ## known vulnerabilities in what is linked (govulncheck), where their database can be reached
	@bash deploy/vuln.sh $(GOVULNCHECK) $(NETWORK)

sbom: build ## bin/*.cdx.json: what is linked into each program, in CycloneDX
	for p in tidemill-agent tidemill-bridge; do \
	  go run $(CYCLONEDX) bin -json -licenses -version '$(VERSION)' -output bin/$$p.cdx.json bin/$$p || exit 1; done

bench: build ## the benchmarks behind the README's figures
	@BENCHTIME=$(BENCHTIME) bash deploy/bench.sh

# The card, the wire, the footprint: one line each.
bench-device: ## what a device costs
	bash deploy/flashbench/bench.sh # bytes written to a card for each reading
	go test ./deploy/e2e -count=1 -v -run '^TestWireBytes$$' # bytes on the wire
	go test ./deploy/footprint -count=1 -v -run '^TestResident$$' # memory with ten sensors at 10 Hz
	go test ./agent/sampler ./agent/device -run '^$$' -bench '^Benchmark(Reading|Sink)$$' -benchmem # time and memory of a reading

fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$(grep -rlE '^func Fuzz' --include='*_test.go' agent bridge hal shadow | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$p/*_test.go | cut -d' ' -f2); do \
	    echo "== ./$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x ./$$p || exit 1; done; done

torture: build ## the kill -9 tests, N kills each
	TIDEMILL_TORTURE=$(N) go test -race -count=1 -timeout 120m -v -run '^TestKill(Everything|Streams)$$' ./deploy/e2e

clean: ## remove what was built
	rm -rf bin build demo-data fleet-data
