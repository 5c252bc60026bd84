#!/bin/sh
# Boots systemd in namespaces of its own, over a copy-on-write view of this machine with the files of GUEST put in: boot.sh GUEST PYTHONPATH...
# To be started by `unshare --pid --fork --mount --cgroup --uts --ipc --net --kill-child`, as root. Everything it writes is gone with it.
set -eu
guest=$1
layers=$guest.layers
mkdir "$layers"
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" "$layers/root"
root=$layers/root
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
umount -l "$root/sys/fs/cgroup" || true
[ -d "$root/sys/fs/cgroup" ] && mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/tmp"
find "$root/etc/systemd/system" -path '*.wants/*' -delete
cp -r "$guest/." "$root/"
# Seen where they are here, also by a user who may not enter the folders above.
shift
number=0
for path in "$@"; do
	number=$((number + 1))
	mkdir "$root/opt/python-$number"
	mount --bind "$path" "$root/opt/python-$number"
done
container="test" exec chroot "$root" /lib/systemd/systemd --system --log-target=journal --show-status=no --unit=multi-user.target
