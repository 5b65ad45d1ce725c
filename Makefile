PYTHON ?= python3
VENV ?= .venv
ARGS ?=
SECONDS ?= 300
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help trace-exec test lint docs pictures bpf bpf-check wheel pyz vm-test bench fuzz fuzz-coverage stress clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

trace-exec: $(VENV)/run ## print each exec on this machine; options: make trace-exec ARGS="--json --duration 5"
	@if [ "$$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then \
	    exec sudo $(VENV)/bin/python -m purebpf trace-exec $(ARGS); \
	fi; \
	[ "$$(id -u)" -eq 0 ] || echo "make: not root, and there is no sudo: trying with the privileges at hand" >&2; \
	exec $(VENV)/bin/python -m purebpf trace-exec $(ARGS)

test: $(VENV)/dev ## run all tests (those that need root or a tool say so when they skip)
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(VENV)/dev ## ruff and mypy --strict
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/dev ## the book, in build/docs/: a warning is an error, a broken link is a warning, and nothing is fetched
	$(VENV)/bin/python -m sphinx -E -W --keep-going -q -d build/doctrees docs build/docs

pictures: $(VENV)/run ## docs/ring.html and docs/diagrams/, out of what the simulated rings do
	$(VENV)/bin/python docs/ring_page.py
	$(VENV)/bin/python docs/diagrams.py

bpf: ## compile bpf/ into prebuilt/ (needs clang, llvm, libbpf-dev)
	bpf/build.sh prebuilt

bpf-check: ## compile bpf/ afresh and compare with the committed objects
	@echo "committed objects were made with $$(sed -n 's/^clang: //p' prebuilt/MANIFEST)"
	rm -rf build/bpf && bpf/build.sh build/bpf
	diff -r prebuilt build/bpf && echo "prebuilt/ is what bpf/ compiles to"

wheel: $(VENV)/dev ## the package for pip, and its source: dist/*.whl, dist/*.tar.gz
	rm -rf dist/*.whl dist/*.tar.gz
	$(VENV)/bin/python -m build --quiet --outdir dist .

pyz: $(VENV)/dev ## all of purebpf and what it needs in one executable file: dist/purebpf.pyz
	rm -rf build/pyz
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir build/pyz .
	$(VENV)/bin/python -m pip download --quiet --no-deps --only-binary :all: --require-hashes -r .ci/pyz.txt --dest build/pyz
	$(VENV)/bin/python .ci/pyz.py build/pyz/*.whl dist/purebpf.pyz

vm-test: pyz ## boot Debian's kernels under QEMU and try purebpf in each; which: make vm-test ARGS="debian12 debian13-arm64" (--help)
	$(VENV)/bin/python tests/vm/matrix.py $(ARGS)

bench: $(VENV)/dev ## measure start-up, the ring and memory against libbpf in C and BCC; parts: make bench ARGS=ring
	$(VENV)/bin/python tests/bench/bench.py $(ARGS)

fuzz: $(VENV)/dev ## damaged objects, then damaged rings, through the pure code; for how long: make fuzz SECONDS=60
	$(VENV)/bin/python tests/fuzz/fuzz.py prebuilt/*.o --seconds $$(( ($(SECONDS) + 1) / 2 )) $(ARGS)
	$(VENV)/bin/python tests/fuzz/fuzz_ring.py --seconds $$(( ($(SECONDS) + 1) / 2 )) $(ARGS)

fuzz-coverage: $(VENV)/dev ## the ring parser with inputs found by coverage (needs atheris, which has wheels for CPython 3.11 to 3.13)
	$(VENV)/bin/python tests/fuzz/atheris_ring.py --seconds $(SECONDS) $(ARGS)

stress: $(VENV)/dev ## 100 million records from producers on every CPU, each one checked (about five minutes; needs root and clang)
	$(VENV)/bin/python tests/stress/stress.py $(ARGS)

clean: ## remove what make made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The environment is made anew when the project's metadata changes.
$(VENV)/base: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { echo "make: $(PYTHON) is older than 3.9; try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "make: this Python cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/run: $(VENV)/base
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/dev: $(VENV)/base
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@
