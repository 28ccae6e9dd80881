# All commands are in dev.py, which runs without make too (on Windows: python dev.py demo).
#   make VENV=/somewhere/else PYTHON=python3.12 demo

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python3.10 python,$(shell command -v $(name) 2>/dev/null)))
COMMANDS := demo test test-all test-chaos lint coverage setup bench bench-long bench-quality bench-smoke clean
export VENV OUT RINGS SEED COMFYUI_PATH CHROMIUM_PATH

.DEFAULT_GOAL := help
.PHONY: help $(COMMANDS)

help $(COMMANDS):
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.10 or newer is needed, and there is none on PATH: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) dev.py $@
