# The two commands: `make run` shows what the policy does to the sample pods, `make test` proves it.

SHELL := /bin/sh
TARGET := wasm32-wasip1
SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock hack/wasm-cargo hack/debian-wasm-toolchain

.PHONY: run
run: policy.wasm ## what the policy does to the sample pods
	cargo run --profile preview --locked -p mesa-preview -- test_data/pods/*.yaml

policy.wasm: $(SOURCES) ## the module, of the profile that is released
	hack/wasm-cargo $(TARGET) build --profile policy --lib -p mesa-injector --locked
	cp target/wasm/$(TARGET)/policy/mesa_injector.wasm $@

# For a registry: the module with its metadata and its documentation in it.
annotated-policy.wasm: policy.wasm metadata.yml README.md ## the module for a registry (kwctl)
	$(KWCTL)
	kwctl annotate policy.wasm -m metadata.yml -u README.md -o $@
KWCTL = @command -v kwctl >/dev/null || { \
	echo "there is no kwctl: https://github.com/kubewarden/kwctl/releases" >&2; exit 2; }

# The policy's life in a cluster, which kubectl names: POLICY is the file, REF the module in its registry, for example
# registry://ghcr.io/you/mesa-injector:v0.1.0. preflight and verify say what is missing, before and after.
POLICY ?= policy.yaml
.PHONY: push
push: annotated-policy.wasm ## to a registry: REF=registry://HOST/NAME:TAG (kwctl)
	@[ -n "$(REF)" ] || { echo "name the module in your registry: make push REF=registry://HOST/NAME:TAG" >&2; exit 2; }
	kwctl push annotated-policy.wasm "$(REF)"

.PHONY: preflight
preflight: ## what a cluster lacks for POLICY (kubectl, jq)
	@hack/preflight "$(POLICY)"

.PHONY: verify
verify: ## whether POLICY works there, by a pod like a launcher (kubectl, jq)
	@hack/verify "$(POLICY)"

.PHONY: deploy
deploy: ## apply POLICY, with the module REF, and wait for it (kubectl, jq)
	@REF="$(REF)" hack/deploy deploy "$(POLICY)"

.PHONY: status
status: ## what became of launcher pods (kubectl, jq)
	@hack/deploy status "$(POLICY)"

.PHONY: undeploy
undeploy: ## delete POLICY, and wait until it is gone (kubectl, jq)
	@hack/deploy undeploy "$(POLICY)"

# The hook: one static program, that runs in any image of its architecture. The flags are for the target alone, so that the
# compiler's own plugins are built as ever.
NODE_TARGET := x86_64-unknown-linux-gnu
.PHONY: mesa-node
mesa-node: ## target/mesa-node: hook and installer, one static program
	hack/static-cargo $(NODE_TARGET) build --profile node -p mesa-node --locked
	cp target/node/$(NODE_TARGET)/node/mesa-node target/mesa-node

# What has a target directory of its own is built beside the rest.
.PHONY: test
test: ## all tests that need no cluster
	$(MAKE) --jobs 2 test-here test-elsewhere
	$(MAKE) e2e-display

.PHONY: test-here test-elsewhere
test-here:
	$(MAKE) --jobs 1 lint test-host e2e-tests
test-elsewhere:
	$(MAKE) --jobs 1 test-wasm mesa-node

.PHONY: fmt
fmt: ## format the sources
	cargo fmt --all

# All tests are built at once, and with the lints, see hack/lint-cargo: nothing is compiled twice. The policy server's engine
# takes minutes: it and the cluster are left to CI and to those who ask for them.
ALL := hack/lint-cargo test --workspace --locked
TESTS := $(ALL) $(if $(filter true,$(CI)),,--exclude engine-tests --exclude cluster-tests)

.PHONY: lint
lint: policy.wasm ## format and lints; builds all tests
	cargo fmt --all --check
	hack/wasm-cargo $(TARGET) clippy -p mesa-injector --lib --locked -- -D warnings
	$(TESTS) --all-targets --no-run

.PHONY: test-host
test-host: policy.wasm ## the tests of this machine
	$(TESTS) --lib --bins --test cases --test suite
	$(TESTS) --doc

.PHONY: test-wasm
test-wasm: ## the policy compiled to Wasm, under Node
	@hack/with-tools node hack/wasm-bindgen-test

# Against the real kwctl where it is on PATH, and against mesa-preview otherwise.
.PHONY: e2e-tests
e2e-tests: policy.wasm tools ## e2e.bats, by kwctl or mesa-preview
	@hack/with-tools bats,jq bats e2e.bats

# From the pod to the display: a real QEMU finds OpenGL with what the policy injects. As root, on a Debian-like machine.
.PHONY: e2e-display
e2e-display: policy.wasm mesa-node tools ## a real QEMU finds OpenGL (root)
	@hack/with-tools cc,python3,setcap $(TESTS) --test display

# A real mediated device whose display is a dma-buf, in a virtual machine. As root, on a Debian-like machine.
.PHONY: e2e-mdev
e2e-mdev: policy.wasm mesa-node tools ## a real mediated device, in a virtual machine (root)
	@hack/with-tools cc,setcap $(TESTS) --test mdev

# In the real API server, policy server and kubelet, whose programs are in the directory HOSTS. As root.
.PHONY: e2e-cluster
e2e-cluster: policy.wasm mesa-node tools ## a real cluster, of the programs in HOSTS (root)
	@[ -n "$(HOSTS)" ] || { echo "name the directory of the programs: make e2e-cluster HOSTS=DIR" >&2; exit 2; }
	@HOSTS="$(abspath $(HOSTS))" hack/with-tools setcap,ip $(ALL) --test cluster

# mesa-preview and mesa-scan as the tests above have built them.
.PHONY: tools
tools:
	$(TESTS) --quiet --no-run

# The policy in the policy server's own engine. With CI=true test-host has it too.
.PHONY: test-engine
test-engine: policy.wasm ## the policy in the policy server's engine
	hack/lint-cargo test --locked -p engine-tests

# The policy: fresh instance plus validate, beside a module that does nothing. The scanner: Debian roots with Mesa.
.PHONY: bench
bench: policy.wasm ## what a request and a scan cost
	MAX_RATIO=1.9 cargo bench --locked -p engine-tests --bench validate
	cargo bench --locked -p mesa-scan --bench scan

# One version, wherever it stands: make release-version V=1.2.3
.PHONY: release-version
release-version: ## set the version everywhere: V=1.2.3
	@hack/release-version "$(V)"

.PHONY: clean
clean: ## remove what was built
	cargo clean
	rm -f policy.wasm annotated-policy.wasm

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9.-]*\):.* ## \(.*\)/\1\t\2/p' Makefile | expand -t 24
