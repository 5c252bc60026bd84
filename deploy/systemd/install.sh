#!/bin/sh
# Puts the units in place, or brings them up to date; run it again after an upgrade. As root: deploy/systemd/install.sh [--venv DIR] [--power-button]
#
#   --venv DIR       the virtual environment that has qtseg-edge, /opt/qtseg-edge unless said otherwise
#   --power-button   the power button shuts down, also where a desktop is logged in
#   DESTDIR          (environment) a root to install into, as for a disk image; nothing is started then
#
# Files of yours in /etc/qtseg-edge are left as they are.
set -eu

fail() {
	echo "install.sh: $1" >&2
	exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}
venv=/opt/qtseg-edge
power_button=no
while [ $# -gt 0 ]; do
	case $1 in
	--venv)
		[ $# -ge 2 ] || fail "--venv: wanted a folder"
		venv=$2
		shift
		;;
	--power-button) power_button=yes ;;
	*) fail "$1: wanted --venv DIR or --power-button" ;;
	esac
	shift
done

case $venv in
*[!A-Za-z0-9/._-]*) fail "--venv $venv: wanted a path of letters, digits, / . _ and -" ;;
/home/* | /root/* | /run/user/*) fail "--venv $venv: the service sees no home folders; make it in /opt: python3 -m venv --system-site-packages /opt/qtseg-edge" ;;
/*) ;;
*) fail "--venv $venv: wanted a path that begins with /" ;;
esac
[ -x "$root$venv/bin/qtseg-edge" ] || fail "$root$venv/bin/qtseg-edge: not there; install it with: $venv/bin/pip install qtseg-edge, or name another --venv"
python=$(readlink -f "$root$venv/bin/python3" || true)
case ${python#"$root"} in
/home/* | /root/*) fail "$venv/bin/python3: is $python, and the service sees no home folders; make it with the system's: /usr/bin/python3 -m venv --system-site-packages $venv" ;;
esac
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "wants root: sudo $0"

units=$root/etc/systemd/system
install -d "$units" "$root/etc/udev/rules.d" "$root/etc/sysusers.d" "$root/etc/tmpfiles.d"
install -d -m 750 "$root/etc/qtseg-edge"
for unit in qtseg-edge@.service qtseg-edge-engine.service qtseg-edge-failed@.service; do
	sed "s|/opt/qtseg-edge|$venv|g" "$here/$unit" >"$units/.$unit.new"
	chmod 644 "$units/.$unit.new"
	mv "$units/.$unit.new" "$units/$unit"
done
install -m 644 "$here/70-qtseg-edge.rules" "$root/etc/udev/rules.d/70-qtseg-edge.rules"
install -m 644 "$here/sysusers.conf" "$root/etc/sysusers.d/qtseg-edge.conf"
install -m 644 "$here/tmpfiles.conf" "$root/etc/tmpfiles.d/qtseg-edge.conf"
[ -e "$root/etc/qtseg-edge/qtseg-edge.env" ] || install -m 640 "$here/qtseg-edge.env" "$root/etc/qtseg-edge/qtseg-edge.env"
if [ $power_button = yes ]; then
	install -d "$root/etc/systemd/logind.conf.d"
	install -m 644 "$here/logind.conf" "$root/etc/systemd/logind.conf.d/qtseg-edge.conf"
fi

# The GPU's device nodes have other names with every generation of boards: those of this one are allowed by name.
devices=$(find "$root/dev" -type c \( -path "$root/dev/nv*" -o -path "$root/dev/host1x*" -o -path "$root/dev/v4l2-nv*" \) 2>/dev/null | sed "s|^$root||" | sort)
for unit in qtseg-edge@.service qtseg-edge-engine.service; do
	rm -f "$units/$unit.d/devices.conf"
	[ -n "$devices" ] || continue
	install -d "$units/$unit.d"
	{
		echo "# Written by install.sh: the nodes of this machine's GPU. Run it again after an upgrade of JetPack or the driver."
		echo "[Service]"
		echo "$devices" | sed 's|.*|DeviceAllow=& rw|'
	} >"$units/$unit.d/devices.conf"
done

if [ -n "$root" ]; then
	exit 0
fi
systemd-sysusers /etc/sysusers.d/qtseg-edge.conf
systemd-tmpfiles --create /etc/tmpfiles.d/qtseg-edge.conf
systemctl daemon-reload
if [ $power_button = yes ]; then
	systemctl reload-or-restart systemd-logind.service || echo "install.sh: the power button changes with the next start of this machine" >&2
fi
udevadm control --reload
udevadm trigger --subsystem-match=video4linux --action=change
