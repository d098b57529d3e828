# Everything that people and CI do, by name. `make help` lists it.

CARGO ?= cargo
# Sanitizers are there in every compiler, and hidden in one that is stable.
UNSTABLE_CARGO = RUSTC_BOOTSTRAP=1 $(CARGO)
GUESTS = tests/guests/target/wasm32-wasip2/release
TEST_PACKAGES = -p interflow -p interflow-macros -p abi-spec -p tests -p fuzz
# On wasmtime's component runtime as well. Apart, because the engine is built with more features for it than the product's has.
DIFFERENTIAL = -p tests --features differential --test differential --test theirs

.PHONY: help demo test test-heavy soak soak-theirs conformance differential guests build bench bench-http fuzz sanitize lint format docs ci

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: guests build ## Builds everything, serves a chain of five components and shows requests going through it
	@sh tests/demo.sh target/release/interflow $(GUESTS)

test: guests ## Runs all tests; the heavy ones are `make test-heavy`
	$(CARGO) build -p interflow
	$(CARGO) test $(TEST_PACKAGES)
	$(CARGO) test $(DIFFERENTIAL)

test-heavy: guests ## Runs the tests that need minutes: 1 GiB bodies, 10,000 open requests
	$(CARGO) build --release -p interflow
	$(CARGO) test --release -p tests --test integration -- --ignored

soak: ## Compares N random programs of each kind with the model, on engine and host ends: make soak N=100000 SEED=7
	PROGRAMS=$(or $(N),10000) SEED=$(or $(SEED),1) $(CARGO) test -p tests --test model -- --nocapture

soak-theirs: ## The same on wasmtime's component runtime, which has known divergences: make soak-theirs N=10000 SEED=7
	PROGRAMS=$(or $(N),3000) SEED=$(or $(SEED),1) $(CARGO) test -p tests --features differential --test theirs -- --nocapture

conformance: ## Runs the .wast scripts of a directory: make conformance SUITE=../component-model/test
	@test -n "$(SUITE)" || { echo "say which: make conformance SUITE=dir, a checkout of a suite or tests/conformance"; exit 2; }
	$(CARGO) build -p interflow
	target/debug/interflow wast --log error $(SUITE)

differential: ## Compares with wasmtime's component runtime: scripts of tests/conformance, random programs
	$(CARGO) build -p interflow
	$(CARGO) test $(DIFFERENTIAL) -- --nocapture

# The middleware apart: with the others it would get features of `wit-bindgen` that it does not ask for, and cost twice as much.
GUEST_BUILD = $(CARGO) build --locked --release --target wasm32-wasip2

guests: ## Builds the guest components
	@rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2
	cd tests/guests && $(GUEST_BUILD) --workspace --exclude guest-middleware
	cd tests/guests && $(GUEST_BUILD) --package guest-middleware

build: ## Builds the release binary
	$(CARGO) build --release -p interflow

bench: ## Measures calls, streams and waiting tasks beside wasmtime's component runtime
	$(CARGO) bench -p benches --bench calls --bench waiting

bench-http: guests build ## Measures HTTP beside native hyper and a wasmtime server; needs wrk
	$(CARGO) build --release -p benches --bins --features http
	target/release/bench-http

# Host code runs on guests' stacks, where the sanitizer does not notice that a trap leaves frames behind: it looks at everything but
# stacks. What lives as long as the process is no leak.
ASAN = detect_stack_use_after_return=0:detect_leaks=0
NO_STACKS = -Cllvm-args=-asan-stack=0
# rustix asks the kernel through the C library, so that the sanitizer forgets what it knew of a stack that is unmapped.
SANITIZED = $(NO_STACKS) --cfg rustix_use_libc
HOST_TARGET = x86_64-unknown-linux-gnu
TARGET ?= builtins
SECONDS ?= 3600
# Like a release, but for what takes long to build, and what is checked.
FUZZ = CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true RUSTFLAGS="$(SANITIZED)" $(UNSTABLE_CARGO) fuzz
FUZZ_BUILD = --features fuzzer --target-dir fuzz/target
FUZZ_FLAGS_builtins = -max_len=481
FUZZ_FLAGS_components = -max_len=16384

fuzz: ## Looks for inputs that harm us: make fuzz TARGET=components|builtins SECONDS=3600 [FILE=one input] [FLAGS=..]; needs cargo-fuzz
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "needs: $(CARGO) install cargo-fuzz"; exit 2; }
	$(FUZZ) build $(FUZZ_BUILD)
	fuzz/target/$(HOST_TARGET)/release/seeds fuzz/corpus $(or $(SUITE),tests/conformance)
	ASAN_OPTIONS=$(ASAN) $(FUZZ) run $(FUZZ_BUILD) $(TARGET) $(FILE) -- \
	    -max_total_time=$(SECONDS) -timeout=25 -rss_limit_mb=4096 $(FUZZ_FLAGS_$(TARGET)) $(FLAGS)

# One after the other: what they count is the process's.
SANITIZE_TESTS = abi:: ring:: component:: host::value:: executor:: --test-threads=1

sanitize: ## Runs the tests of the code that is unsafe, and of what is behind it, under AddressSanitizer
	ASAN_OPTIONS=$(ASAN) RUSTFLAGS="-Zsanitizer=address $(SANITIZED)" $(UNSTABLE_CARGO) test -p interflow --lib \
	    --target $(HOST_TARGET) --target-dir target/sanitize -- $(SANITIZE_TESTS)

lint: ## Checks formatting and lints
	$(CARGO) fmt --all --check
	cd tests/guests && $(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy $(DIFFERENTIAL) -- -D warnings

format: ## Formats everything
	$(CARGO) fmt --all
	cd tests/guests && $(CARGO) fmt --all

docs: ## Builds the documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps -p interflow -p interflow-macros -p abi-spec

ci: lint test docs ## What CI runs
