#!/usr/bin/env bash
# The runtime's tests on arm64: a Debian 12 root with aarch64 wheels, run by qemu's user-mode emulator. `make test-arm64`, as root.
# The root and the wheels stay in .arm64/; the second run begins with the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly PLACE=$PWD/.arm64
readonly ROOT=$PLACE/root
readonly SUITE=bookworm PYTHON_TAG=311  # Debian 12 and its Python
readonly SITE=$ROOT/usr/local/lib/python3.11/dist-packages  # where that looks by itself: tests give their children another PYTHONPATH
readonly MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
readonly VENV=${VENV:-.venv}
readonly BINFMT=/proc/sys/fs/binfmt_misc
readonly RULE=/usr/lib/binfmt.d/qemu-aarch64.conf  # of the package qemu-user-static

fail() {
  echo "test-arm64: $1" >&2
  exit 3
}

require() {
  [ "$(id -u)" = 0 ] || fail "wants root, to mount and to change the root folder; run: sudo make test-arm64"
  local tool
  for tool in debootstrap qemu-aarch64-static unshare ip; do
    command -v "$tool" >/dev/null || fail "wants $tool, which is not installed; get it with: apt install debootstrap qemu-user-static iproute2"
  done
  [ -x "$VENV/bin/python" ] || fail "wants the environment $VENV, which is not there; make it with: make check"
}

# Every program of arm64 is given to qemu by the kernel, the ones that tests start included. What was not so before is taken back at the end.
register_emulator() {
  trap release_emulator EXIT
  if [ ! -e "$BINFMT/register" ]; then
    mount -t binfmt_misc binfmt_misc "$BINFMT" 2>/dev/null ||
      fail "wants the kernel's binfmt_misc, which cannot be mounted here; get it with: modprobe binfmt_misc"
    mounted=yes
  fi
  if [ ! -e "$BINFMT/qemu-aarch64" ]; then
    [ -r "$RULE" ] || fail "wants $RULE, which is not there; get it with: apt install qemu-user-static"
    cat "$RULE" >"$BINFMT/register"
    registered=yes
  fi
}

release_emulator() {
  [ -z "${registered:-}" ] || echo -1 >"$BINFMT/qemu-aarch64"
  [ -z "${mounted:-}" ] || umount "$BINFMT"
}

make_root() {
  local stamp="$PLACE/root.stamp"
  [ ! -e "$stamp" ] || return 0
  rm -rf --one-file-system "$ROOT"  # what an interrupted run left cannot be gone on with; its packages can
  mkdir -p "$PLACE/debs"
  debootstrap --foreign --arch=arm64 --variant=minbase --include=python3 --cache-dir="$PLACE/debs" "$SUITE" "$ROOT" "$MIRROR"
  unshare --mount --pid --fork --kill-child chroot "$ROOT" /debootstrap/debootstrap --second-stage  # it mounts /proc
  rm -rf "$PLACE/debs"
  touch "$stamp"
}

# From outside: pip under the emulator takes minutes. Anew when the wanted packages change; a wheel is all that is taken.
install_wheels() {
  local wanted="$PLACE/wheels.txt"
  "$VENV/bin/python" -m tests.arm64.wheels >"$wanted.new"
  ! cmp --silent "$wanted.new" "$wanted" || return 0
  rm -rf "$SITE"
  "$VENV/bin/pip" install --quiet --target "$SITE" --only-binary=:all: --implementation cp --python-version "$PYTHON_TAG" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --requirement "$wanted.new"
  mv "$wanted.new" "$wanted"
}

# In namespaces of its own: the mounts, the processes and the network, which is loopback alone, are gone with it, whatever ends it.
run_tests() {
  export ROOT
  # shellcheck disable=SC2016  # for the inner shell
  unshare --mount --pid --net --fork --kill-child bash -euc '
    ip link set lo up
    mkdir -p "$ROOT/src"
    mount --bind "$PWD" "$ROOT/src"
    mount -o remount,bind,ro "$ROOT/src"
    mount -t proc proc "$ROOT/proc"
    mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
    mkdir -p "$ROOT/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
      HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis chroot "$ROOT" /bin/sh -c "cd /src; exec python3 -m tests.arm64.inside \"\$@\"" sh "$@" || exit  # no exec: as process 1 it would have to wait for orphans
  ' bash "$@"
}

require
mkdir -p "$PLACE"
exec 9>"$PLACE/lock"
flock --nonblock 9 || fail "is running already in $PLACE"
register_emulator
renice --priority 19 --pid $$ >/dev/null
make_root
install_wheels
run_tests "$@"
