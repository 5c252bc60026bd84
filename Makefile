# One virtual environment for everything; PYTHON=python3.12 make test, or VENV=/elsewhere make test.
PYTHON ?= python3
VENV ?= .venv

# What the tests' real parts are made of: an RTSP server, a browser, a reverse proxy, an OpenCV with windows and GStreamer. Without them those tests are skipped.
DEBIAN_PACKAGES = chromium ffmpeg gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-bad gstreamer1.0-plugins-good \
	gstreamer1.0-plugins-ugly gstreamer1.0-tools libpython3.11 nginx-light openbox python3-gi python3-numpy python3-opencv shellcheck systemd xdotool xvfb

.PHONY: demo test check test-arm64 debian-packages clean

demo: $(VENV)/.demo  ## The main job: the overlay of the sample video in overlay.mp4
	$(VENV)/bin/qtseg-edge run --video samples/colonoscopy.mp4 -o overlay.mp4 -o overlay.jsonl

test: $(VENV)/.dev check  ## What CI runs
	$(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-arm64: $(VENV)/.dev  ## As root: the runtime's tests on arm64, under an emulator; not part of `test`, docs/decisions/0028-arm64.md
	VENV=$(VENV) tests/arm64/run.sh

debian-packages:  ## As root, on Debian or Ubuntu
	apt-get update --quiet=2
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends $(DEBIAN_PACKAGES)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet -e '.[cpu]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet torch==2.13.0
	$(VENV)/bin/pip install --quiet -e '.[dev]'
	-$(VENV)/bin/pip install --quiet --no-deps --upgrade --target $(VENV)/share/tritonserver nvidia-pytriton==0.7.0
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .arm64 .pytest_cache .mypy_cache .ruff_cache .hypothesis overlay.mp4 overlay.jsonl
