#!/bin/sh
# Installs tidemill-agent with the identity of this kit: sudo ./install
# It says what it does. Run again it changes nothing that is right already.
#   --replace     although this device is installed as another thing; that one's files are kept aside
#   --root DIR    into the image of a device below DIR, without starting anything
set -eu
umask 022

die() { echo "install: $*" >&2; exit 1; }
said() { printf '%-9s %s\n' "$1" "$2"; }

root= replace= changed=
while [ $# -gt 0 ]; do
	case $1 in
	--root) [ $# -gt 1 ] && [ -d "$2" ] || die "--root wants a folder"; root=${2%/}; shift ;;
	--replace) replace=1 ;;
	*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; [ "$1" = --help ] && exit 0; exit 2 ;;
	esac
	shift
done
kit=$(cd "$(dirname "$0")" && pwd)
[ -n "$root" ] || [ "$(id -u)" = 0 ] || die "only root can: sudo $0"

# put FILE TARGET MODE copies a file unless it is there already.
put() {
	if cmp -s "$1" "$root$2"; then
		chmod "$3" "$root$2"
		said same "$2"
	else
		mkdir -p -m 755 "$root$(dirname "$2")"
		(umask 077 && cp "$1" "$root$2.part")
		chmod "$3" "$root$2.part"
		mv -f "$root$2.part" "$root$2"
		said written "$2"
		changed=1
	fi
}

# Everything is looked at before anything is changed.
etc=/etc/tidemill
thing=$(sed -n 's/^thing = //p' "$kit/etc/agent.toml")
if [ -f "$root$etc/agent.toml" ]; then
	other=$(sed -n 's/^thing *= *//p' "$root$etc/agent.toml")
	if [ "$other" != "$thing" ]; then
		[ -n "$replace" ] || die "this device is the thing ${other:-of a claim} already, and the kit is for $thing; with --replace it becomes that"
		aside=$etc.$(date +%Y%m%d-%H%M%S)
	fi
fi
deb=
if ls "$kit"/tidemill-agent_*.deb >/dev/null 2>&1; then
	command -v dpkg >/dev/null || die "this kit has a Debian package, and there is no dpkg here: make a kit with tidemill-bridge thing kit NAME -agent FILE"
	if [ -n "$root" ]; then # of the device's, which may be another than this machine's
		arch=$(sed -n '/^Package: dpkg$/,/^$/s/^Architecture: //p' "$root/var/lib/dpkg/status")
	else
		arch=$(dpkg --print-architecture)
	fi
	deb=$kit/tidemill-agent_$arch.deb
	[ -f "$deb" ] || die "this kit has no package for ${arch:-a folder without Debian}: make a kit with tidemill-bridge thing kit NAME -deb FILE"
fi
case $(uname -m) in
aarch64) kinds="arm64 arm" ;;
armv*) kinds=arm ;;
x86_64) kinds=amd64 ;;
*) kinds= ;;
esac
agent=
for kind in $kinds; do
	[ -n "$agent" ] || [ ! -f "$kit/tidemill-agent-$kind" ] || agent=$kit/tidemill-agent-$kind
done
[ -n "$deb$agent" ] || [ -x "$root/usr/bin/tidemill-agent" ] ||
	die "this kit has no agent for $(uname -m), and there is none in /usr/bin: make a kit with tidemill-bridge thing kit NAME -agent FILE"

# with_package has dpkg install the agent, unless that version is there, and removes what
# a kit without a package wrote: it would go before the package's own.
with_package() {
	want=$(dpkg-deb -f "$deb" Version)
	if [ "$(dpkg-query ${root:+--root="$root"} -W -f '${db:Status-Abbrev}${Version}' tidemill-agent 2>/dev/null)" = "ii $want" ]; then
		said same "tidemill-agent $want"
	else
		said installs "tidemill-agent $want (dpkg -i)"
		DEBIAN_FRONTEND=noninteractive dpkg ${root:+--root="$root" --force-script-chrootless --force-architecture} \
			--force-confdef --force-confold -i "$deb"
		changed=1
	fi
	for old in systemd/system/tidemill-agent.service systemd/system/tidemill-agent-rotate.service \
		systemd/system/tidemill-agent-rotate.timer sysusers.d/tidemill.conf udev/rules.d/60-tidemill.rules; do
		[ ! -f "$root/etc/$old" ] || { rm -f "$root/etc/$old"; said removed "/etc/$old, which the package has its own of"; changed=1; }
	done
}

without_package() {
	[ -z "$agent" ] || put "$agent" /usr/bin/tidemill-agent 755
	for unit in tidemill-agent.service tidemill-agent-rotate.service tidemill-agent-rotate.timer; do
		put "$kit/systemd/$unit" "/etc/systemd/system/$unit" 644
	done
	put "$kit/systemd/tidemill.sysusers" /etc/sysusers.d/tidemill.conf 644
	put "$kit/systemd/60-tidemill.rules" /etc/udev/rules.d/60-tidemill.rules 644
	if [ -z "$root" ]; then
		systemd-sysusers /etc/sysusers.d/tidemill.conf
		udevadm control --reload && udevadm trigger --subsystem-match=i2c-dev --subsystem-match=gpio ||
			said note "udev does not answer; the rights to buses and lines come with the next start of the device"
	fi
}

if [ -n "$deb" ]; then with_package; else without_package; fi

if [ -n "${aside-}" ]; then
	mv "$root$etc" "$root$aside"
	said aside "$aside, which was $other"
fi
mkdir -p -m 700 "$root$etc"
for name in key.pem cert.pem ca.pem; do
	put "$kit/etc/$name" "$etc/$name" 600
done
if [ -f "$root$etc/agent.toml" ] && ! cmp -s "$kit/etc/agent.toml" "$root$etc/agent.toml"; then
	said kept "$etc/agent.toml, which was changed here; the kit's is beside it as agent.toml.new"
	(umask 077 && cp "$kit/etc/agent.toml" "$root$etc/agent.toml.new")
else
	put "$kit/etc/agent.toml" "$etc/agent.toml" 600
fi
if [ -n "$root" ] && [ -n "$deb" ]; then
	said done "below $root; the agent starts with the device"
	exit 0
fi
[ -z "$root" ] || { said done "below $root; nothing was started, and $etc waits for its owner, tidemill-agent"; exit 0; }
if [ -n "$deb" ]; then
	systemd-tmpfiles --create tidemill-agent.conf
else
	chown -R tidemill-agent:tidemill-agent "$etc"
fi

if grep -q '^bus *= *"/dev/i2c' "$etc/agent.toml" && ! ls /dev/i2c-* >/dev/null 2>&1; then
	if command -v raspi-config >/dev/null; then
		said turns "the I2C bus on (raspi-config nonint do_i2c 0)"
		raspi-config nonint do_i2c 0
	else
		said note "there is no /dev/i2c-*: turn the I2C bus on, then run this again"
	fi
fi
systemctl daemon-reload
systemctl enable tidemill-agent
if [ -n "$changed" ] || ! systemctl is-active --quiet tidemill-agent; then
	said starts "tidemill-agent"
	systemctl restart --no-block tidemill-agent
fi
# It starts when its first state is known; a minute is long for that.
for _ in $(seq 60); do
	systemctl is-active --quiet tidemill-agent && break
	sleep 1
done
tidemill-agent status --config "$etc/agent.toml" || die "tidemill-agent does not run: journalctl -u tidemill-agent says why"
said done "readings are shown by tidemill-bridge watch 'dt/#', on the server"
