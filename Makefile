# Everything is set up in one virtual environment, and only again when pyproject.toml (or ComfyUI's requirements.txt) changes.
#   make VENV=/somewhere/else PYTHON=python3.12 demo

VENV ?= .venv
PYTHON ?=
OUT ?= demo-out
RINGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install -qq
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10 python)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint coverage setup comfyui bench bench-quality bench-smoke clean

help:
	@echo "make demo    train a slider on the built-in model and draw its strip, into $(OUT)/ (sets itself up; needs no ComfyUI)"
	@echo "make test    every test ring that can run here, then a summary   (RINGS=\"core lint\" picks some)"
	@echo "make test-all   the same with every combination that make test tries in turn: an hour or two"
	@echo "make lint    ruff check, ruff format --check, mypy"
	@echo "make coverage   which lines of slider_core the core ring reaches: a table, and pages in build/coverage"
	@echo "make bench   a step, its scaling, a sweep, encoding and ComfyUI's start against their peers: an hour or two; needs ComfyUI"
	@echo "make bench-quality   which objective makes the best slider: some hours on two cores, goes on where it was stopped"
	@echo "make bench-smoke     what a step and a run cost in counts, against the recorded ones"
	@echo "make setup   the virtual environment $(VENV) with everything that make test needs"
	@echo "make clean   remove what the targets made ($(VENV) too)"
	@echo
	@echo "COMFYUI_PATH=/path/to/ComfyUI   where the tests find ComfyUI (else ~/comfy/ComfyUI, else two folders up)"
	@echo "CHROMIUM_PATH=/path/to/chromium the browser of the browser tests (else chromium, google-chrome on PATH)"

# one thread: a tiny model gains nothing from a second one, and threads that wait for each other on a busy machine cost minutes
demo: $(VENV)/.stamp-package
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m slider_core demo --out $(OUT)

test: setup
	$(PY) tests/rings.py $(RINGS)

# what `test` tries in turn (formats x algorithms x models), all of it: an hour or two
test-all: setup
	SLIDER_FULL_PRODUCTS=1 $(PY) tests/rings.py $(RINGS)

lint: $(VENV)/.stamp-tools
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(PY) -m mypy slider_core

coverage: $(VENV)/.stamp-tools
	$(PY) -m pytest -q --cov --cov-report=term --cov-report=html:build/coverage

bench: setup
	for part in start encoding sweep step scaling; do echo "$$part:"; $(PY) benchmarks/$$part.py || exit 1; done

bench-quality: $(VENV)/.stamp-package
	$(PY) benchmarks/quality.py

bench-smoke: $(VENV)/.stamp-package
	$(PY) benchmarks/smoke.py

# ComfyUI's packages first: its three torch packages must be chosen together
setup: comfyui
	@$(MAKE) --no-print-directory $(VENV)/.stamp-tools
	@if [ -n "$$($(PY) tests/rings.py --comfyui)" ]; then $(MAKE) --no-print-directory $(VENV)/.stamp-peers; fi

# the stamp is named by the checksum of ComfyUI's requirements, so that an update of ComfyUI sets up again
comfyui: $(VENV)/.stamp-venv
	@root="$$($(PY) tests/rings.py --comfyui)"; \
	if [ -z "$$root" ]; then echo "setup: no ComfyUI found, tests that need it will be skipped (set COMFYUI_PATH to enable them)"; exit 0; fi; \
	stamp="$(VENV)/.stamp-comfyui-$$(cksum < "$$root/requirements.txt" | cut -d' ' -f1)"; \
	if [ -e "$$stamp" ]; then exit 0; fi; \
	echo "setup: packages of ComfyUI at $$root (once, some minutes)"; \
	$(PY) tools/install_torch.py && $(PIP) -r "$$root/requirements.txt" && $(PY) tools/install_torch.py && touch "$$stamp"

$(VENV)/.stamp-venv:
	@found=""; \
	for p in $(CANDIDATES); do \
	    if $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then found=$$p; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "setup: Python 3.10 or newer is needed, and none of these is: $(CANDIDATES). Name one with make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	if ! $$found -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "setup: $$found has no venv module. On Debian and Ubuntu: apt install python3-venv; or name another with make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	echo "setup: virtual environment $(VENV) with $$($$found --version)"; \
	$$found -m venv "$(VENV)"
	@touch $@

$(VENV)/.stamp-package: pyproject.toml | $(VENV)/.stamp-venv
	@echo "setup: torch, peft and the package itself (once, about a minute)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.stamp-tools: pyproject.toml | $(VENV)/.stamp-venv
	@echo "setup: test tools"
	@$(PIP) --editable ".[test]"
	@touch $@ $(VENV)/.stamp-package

$(VENV)/.stamp-peers: pyproject.toml | $(VENV)/.stamp-venv
	@echo "setup: programs that read our files (diffusers)"
	@$(PIP) --editable ".[peers]"
	@touch $@

clean:
	rm -rf "$(VENV)" build "$(OUT)" .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
