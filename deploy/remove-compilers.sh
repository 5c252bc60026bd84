#!/bin/sh
# Takes the compilers out of one of NVIDIA's images, which are made for developers. Fails where one is left. ROOT is for the test.
set -eu
root=${1:-}

for folder in "$root/usr/bin" "$root/usr/local/bin" "$root/usr/local/cuda/bin"; do
    [ -d "$folder" ] || continue
    find -L "$folder" -maxdepth 1 -regextype posix-extended \
        -regex '.*/([a-z0-9_]+-linux-gnu-)?(cc|c\+\+|cpp|gcc|g\+\+|c89|c99|c89-gcc|c99-gcc|clang|clang\+\+|gfortran)(-[0-9.]+)?' \
        -exec rm -f {} +
done
find "$root/usr/lib/gcc" "$root/usr/libexec/gcc" "$root"/usr/local/cuda* -type f -o -type l 2> /dev/null |
    grep -E '/(cc1|cc1plus|f951|lto1|nvcc|cicc|cudafe\+\+)$' |
    while read -r path; do rm -f "$path"; done

left=$(find "$root/usr" -xdev -regextype posix-extended -regex '.*/bin/([a-z0-9_]+-linux-gnu-)?(cc|gcc|g\+\+|nvcc|clang)(-[0-9.]+)?' -print)
if [ -n "$left" ]; then
    echo "remove-compilers.sh: still there: $left" >&2
    exit 1
fi
