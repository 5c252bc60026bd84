# One virtual environment for everything; PYTHON=python3.12 make test, or VENV=/elsewhere make test.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test check clean

demo: $(VENV)/.demo  ## The main job: the overlay of the sample video in overlay.mp4
	$(VENV)/bin/qtseg-edge run --video samples/colonoscopy.mp4 -o overlay.mp4 -o overlay.jsonl

test: $(VENV)/.dev check  ## What CI runs
	$(VENV)/bin/pytest

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet -e '.[cpu]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet torch==2.13.0
	$(VENV)/bin/pip install --quiet -e '.[dev]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis overlay.mp4 overlay.jsonl
