# The two commands: `make run` shows what the policy does to the sample pods, `make test` proves it.

SHELL := /bin/sh
TARGET := wasm32-wasip1
SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock hack/wasm-cargo hack/debian-wasm-toolchain

.PHONY: run
run: policy.wasm
	cargo run --release --locked -p mesa-preview -- test_data/pods/*.yaml

policy.wasm: $(SOURCES)
	hack/wasm-cargo $(TARGET) build --profile policy --lib -p mesa-injector --locked
	cp target/wasm/$(TARGET)/policy/mesa_injector.wasm $@

# For a registry: the module with its metadata and its documentation in it. Needs kwctl.
annotated-policy.wasm: policy.wasm metadata.yml README.md
	kwctl annotate policy.wasm -m metadata.yml -u README.md -o $@

.PHONY: test
test: lint test-host test-wasm e2e-tests e2e-display

.PHONY: fmt
fmt:
	cargo fmt --all

.PHONY: lint
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	hack/wasm-cargo $(TARGET) clippy -p mesa-injector --lib --locked -- -D warnings

.PHONY: test-host
test-host: policy.wasm
	cargo test --workspace --exclude mesa-preview --exclude display-tests --locked
	cargo test --release -p mesa-preview --locked # unoptimised, its engine takes seconds to start

.PHONY: test-wasm
test-wasm:
	@hack/with-tools node hack/wasm-bindgen-test

# Against the real kwctl where it is on PATH, and against mesa-preview otherwise.
.PHONY: e2e-tests
e2e-tests: policy.wasm
	cargo test --quiet --release -p mesa-preview --locked --no-run
	@hack/with-tools bats,jq bats e2e.bats

# From the pod to the display: a real QEMU finds OpenGL with what the policy injects. As root, on a Debian-like machine.
.PHONY: e2e-display
e2e-display: policy.wasm
	cargo test --quiet --release -p mesa-preview --locked --no-run # as for e2e-tests: other features would build its engine anew
	cargo build --quiet --release --locked -p mesa-scan
	@hack/with-tools cc,python3,setcap cargo test --locked -p display-tests

# The policy: fresh instance plus validate, beside a module that does nothing. The scanner: Debian roots with Mesa.
.PHONY: bench
bench: policy.wasm
	MAX_RATIO=1.7 cargo bench --locked -p mesa-preview --bench validate
	cargo bench --locked -p mesa-scan --bench scan

.PHONY: clean
clean:
	cargo clean
	rm -f policy.wasm annotated-policy.wasm
