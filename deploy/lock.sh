#!/bin/sh
# Pins what the images install, with the hash of every wheel, from the ranges in pyproject.toml. Wants uv: pip install uv
set -eu
cd "$(dirname "$0")/.."

lock() { # FILE WHAT...
    file=$1
    shift
    printf '# Made by deploy/lock.sh; change pyproject.toml, or what that script says, and run it again.\n' > "$file"
    uv pip compile --quiet --universal --python-version 3.12 --only-binary :all: --generate-hashes --no-emit-index-url --no-header \
        --no-annotate "$@" >> "$file"
}

# hatchling builds the wheel.
printf 'hatchling>=1.27\n' | lock deploy/requirements/build.txt -
# The graph of lower precision is made while an image is built, so that the device needs TensorRT alone.
printf 'onnx>=1.18\nonnxruntime>=1.20\n' | lock deploy/requirements/graph.txt pyproject.toml -
lock deploy/x86/requirements-cpu.txt pyproject.toml --extra cpu --extra web
printf 'av>=14.2\n' | lock deploy/x86/requirements-gpu.txt pyproject.toml --extra web --extra cuda -

# Beside JetPack's own OpenCV and TensorRT, from the ranges that an installation without a container takes.
jetson() { # JETPACK PYTHON GLIBC
    file=deploy/jetson/requirements-jetpack$1.lock
    printf '# Made by deploy/lock.sh from requirements-jetpack%s.txt.\n' "$1" > "$file"
    uv pip compile --quiet --python-version "$2" --python-platform "aarch64-manylinux_2_$3" --only-binary :all: --generate-hashes \
        --no-emit-index-url --no-header --no-annotate "deploy/jetson/requirements-jetpack$1.txt" >> "$file"
}
jetson 6 3.10 35
jetson 7 3.12 39
