#!/bin/sh
# Throwaway bare servers for playbooks/sandbox.yml: systemd-nspawn on an overlay of a cached Debian tree.
# Each is a real server to whoever connects: systemd as PID 1, an address of its own, sshd, apt.
#   sandbox.sh requirements          install the tools this needs (apt)
#   sandbox.sh base SUITE            make the cached tree (once, about 90 s)
#   sandbox.sh network               bridge, forwarding, masquerade
#   sandbox.sh start NAME ADDRESS PUBLIC_KEY SUITE   create if new, start if stopped
#   sandbox.sh stop NAME             power off hard, like pulling the plug
#   sandbox.sh destroy NAME          stop and forget everything written
# A reboot from inside is a real one: services end, boot_id changes, sshd comes back.
# Prints "changed" as its last word when it changed something. Needs root.
set -eu

: "${SANDBOX_ROOT:=/var/lib/bedplate-sandbox}" "${SANDBOX_BRIDGE:=bedplate0}" "${SANDBOX_SUBNET:=10.213.0}"
: "${SANDBOX_USER:=deploy}"
packages=systemd,systemd-sysv,dbus,openssh-server,python3,sudo,iproute2,ca-certificates,udev,kmod

die() { echo "$*" >&2; exit 1; }

requirements() {
  missing=
  for pair in debootstrap:debootstrap systemd-nspawn:systemd-container ip:iproute2 iptables:iptables ssh:openssh-client \
    rsync:rsync setsid:util-linux; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null ||
    die "BP011 these are missing and there is no apt-get here:$missing. Fix: install them with this system's package manager."
  apt-get update -q
  # shellcheck disable=SC2086  # a list of package names
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
  echo changed
}

# The mirror this machine itself uses, so that a closed network's own mirror serves the sandbox too.
mirror() {
  [ "$(. /etc/os-release; echo "$ID")" = debian ] || return 0
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    grep -Eo '^(deb( \[[^]]*\])?|URIs:) +[a-z+]+://[^ ]+' | grep -v security | sed 's/.* //' | head -n 1
}

base() {
  tree=$SANDBOX_ROOT/base-$1
  [ -e "$tree/.complete" ] && return 0
  rm -rf "$tree" "$tree.tmp"
  mkdir -p "$SANDBOX_ROOT"
  # shellcheck disable=SC2046  # no mirror found means no argument: debootstrap has its own default
  debootstrap --variant=minbase --include="$packages" "$1" "$tree.tmp" $(mirror)
  rm -f "$tree.tmp"/var/cache/apt/archives/*.deb "$tree.tmp"/etc/ssh/ssh_host_*
  mv "$tree.tmp" "$tree"
  touch "$tree/.complete"
  echo changed
}

network() {
  ip link show "$SANDBOX_BRIDGE" >/dev/null 2>&1 && return 0
  ip link add "$SANDBOX_BRIDGE" type bridge
  ip addr add "$SANDBOX_SUBNET.1/24" dev "$SANDBOX_BRIDGE"
  ip link set "$SANDBOX_BRIDGE" up
  sysctl -qw net.ipv4.ip_forward=1
  iptables -t nat -C POSTROUTING -s "$SANDBOX_SUBNET.0/24" ! -d "$SANDBOX_SUBNET.0/24" -j MASQUERADE 2>/dev/null ||
    iptables -t nat -A POSTROUTING -s "$SANDBOX_SUBNET.0/24" ! -d "$SANDBOX_SUBNET.0/24" -j MASQUERADE
  iptables -C FORWARD -i "$SANDBOX_BRIDGE" -j ACCEPT 2>/dev/null || iptables -I FORWARD -i "$SANDBOX_BRIDGE" -j ACCEPT
  iptables -C FORWARD -o "$SANDBOX_BRIDGE" -j ACCEPT 2>/dev/null || iptables -I FORWARD -o "$SANDBOX_BRIDGE" -j ACCEPT
  echo changed
}

# This machine's pip settings as a pip.conf (a closed network's own index is a user's case too).
pip_conf() {
  echo '[global]'
  python3 -m pip config list 2>/dev/null |
    sed -nE "s/^(global|:env:)\.(index-url|extra-index-url|find-links|cert|trusted-host|proxy)='(.*)'\$/\2 = \3/p" |
    sed 's/\\n/ /g' | awk -F' = ' '!seen[$1]++'
}

# Local folders those settings name: the server sees them at the same path, read-only. An index's "simple" folder links to
# files beside it.
pip_folders() { pip_conf | grep -Eo '(file://)?/[^ ]+' | sed -E 's,^file://,,; s,/simple/?$,,' | while read -r d; do [ -d "$d" ] && echo "$d"; done; return 0; }

# What a person with console access would set up before the first SSH login.
prepare() {
  upper=$1 address=$2 key=$3 suite=$4 name=$5
  mkdir -p "$upper/etc/systemd/network" "$upper/etc/systemd/system/multi-user.target.wants" "$upper/etc/sudoers.d" \
    "$upper/etc/ssl/certs" "$upper/home/$SANDBOX_USER/.ssh" "$upper/etc/ssh" "$upper/etc/apt/apt.conf.d"
  # The name must sort before systemd's own 80-container-host0.network.
  printf '[Match]\nName=host0\n[Network]\nAddress=%s/24\nGateway=%s.1\n' "$address" "$SANDBOX_SUBNET" \
    >"$upper/etc/systemd/network/10-host0.network"
  ln -sf /lib/systemd/system/systemd-networkd.service "$upper/etc/systemd/system/multi-user.target.wants/"
  # Who sees sshd can log in: until user sessions are permitted, PAM turns everybody but root away.
  mkdir -p "$upper/etc/systemd/system/ssh.service.d"
  printf '[Unit]\nAfter=systemd-user-sessions.service\n' >"$upper/etc/systemd/system/ssh.service.d/after-sessions.conf"
  echo "$name" >"$upper/etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >"$upper/etc/hosts"
  cp -L /etc/resolv.conf "$upper/etc/resolv.conf"
  # The certificates this machine trusts: the bundle, and those of its own that a later update of the bundle must keep.
  cp /etc/ssl/certs/ca-certificates.crt "$upper/etc/ssl/certs/ca-certificates.crt"
  if [ -d /usr/local/share/ca-certificates ]; then
    mkdir -p "$upper/usr/local/share" && cp -rL /usr/local/share/ca-certificates "$upper/usr/local/share/"
  fi
  pip_conf >"$upper/etc/pip.conf"
  if [ "$(. /etc/os-release; echo "${VERSION_CODENAME:-}")" = "$suite" ]; then
    rm -rf "$upper/etc/apt/sources.list.d"
    cp -r /etc/apt/sources.list.d "$upper/etc/apt/"
    rm -f "$upper"/etc/apt/sources.list.d/*disabled*
    : >"$upper/etc/apt/sources.list"
    [ ! -e /etc/apt/sources.list ] || cp /etc/apt/sources.list "$upper/etc/apt/sources.list"
    cat /etc/apt/apt.conf.d/* 2>/dev/null | grep -E '^Acquire::' >"$upper/etc/apt/apt.conf.d/90controller" || :
  fi
  cat "$key" >"$upper/home/$SANDBOX_USER/.ssh/authorized_keys"
  echo "$SANDBOX_USER ALL=(ALL) NOPASSWD: ALL" >"$upper/etc/sudoers.d/$SANDBOX_USER"
  chmod 0440 "$upper/etc/sudoers.d/$SANDBOX_USER"
  [ -e "$upper/etc/ssh/ssh_host_ed25519_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$upper/etc/ssh/ssh_host_ed25519_key"
}

# The number may belong to another process by now: this machine may have been restarted.
running() { [ -s "$1/pid" ] && grep -qsx systemd-nspawn "/proc/$(cat "$1/pid")/comm"; }

start() {
  name=$1 address=$2 key=$3 suite=$4 home=$SANDBOX_ROOT/servers/$1
  if running "$home"; then
    # Made by another checkout perhaps: let this one's key in too.
    keys=$home/root/home/$SANDBOX_USER/.ssh/authorized_keys
    grep -qxFf "$key" "$keys" || { cat "$key" >>"$keys" && echo changed; }
    return 0
  fi
  network
  mkdir -p "$home/upper" "$home/work" "$home/root"
  [ -e "$home/prepared" ] || { prepare "$home/upper" "$address" "$key" "$suite" "$name"; fresh=1; }
  mountpoint -q "$home/root" ||
    mount -t overlay overlay -o "lowerdir=$SANDBOX_ROOT/base-$suite,upperdir=$home/upper,workdir=$home/work" "$home/root"
  if [ "${fresh:-}" ]; then
    chroot "$home/root" useradd --no-create-home --shell /bin/bash "$SANDBOX_USER"
    chroot "$home/root" chown -R "$SANDBOX_USER:$SANDBOX_USER" "/home/$SANDBOX_USER"
    chmod 0700 "$home/root/home/$SANDBOX_USER/.ssh"
    touch "$home/prepared"
  fi
  touch "$home/on"
  setsid "$0" supervise "$name" </dev/null >"$home/console.log" 2>&1 &
  echo $! >"$home/supervisor"
  for _ in 1 2 3 4 5 6 7 8 9 10; do running "$home" && break; sleep 0.1; done
  echo changed
}

# Runs the server, and again when it reboots (systemd-nspawn ends with 133 then), until it powers off or is stopped.
supervise() {
  home=$SANDBOX_ROOT/servers/$1 ended=133
  binds=$(pip_folders | sort -u | sed 's/^/--bind-ro=/')
  while [ "$ended" = 133 ] && [ -e "$home/on" ]; do
    ended=0
    # shellcheck disable=SC2086  # one word per folder
    systemd-nspawn --quiet --register=no --keep-unit -D "$home/root" -b --console=pipe --resolv-conf=off \
      --network-bridge="$SANDBOX_BRIDGE" --machine="$1" $binds &
    echo $! >"$home/pid"
    wait $! || ended=$?
  done
}

supervised() { [ -s "$1/supervisor" ] && grep -qsz '^supervise$' "/proc/$(cat "$1/supervisor")/cmdline"; }

stop() {
  home=$SANDBOX_ROOT/servers/$1
  [ -d "$home" ] || return 0
  rm -f "$home/on"
  if running "$home" || supervised "$home"; then
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      # The server's PID 1, not systemd-nspawn: with it everything inside dies at once, and nspawn tidies up and ends.
      nspawn=$(cat "$home/pid")
      # shellcheck disable=SC2046  # one word per child
      ! running "$home" || kill -KILL $(cat "/proc/$nspawn/task/$nspawn/children") 2>/dev/null || :
      sleep 0.3
      running "$home" || supervised "$home" || break
    done
    ! running "$home" || die "sandbox.sh: $1 does not stop; its process is $nspawn"
    echo changed
  fi
  rm -f "$home/pid" "$home/supervisor"
  if mountpoint -q "$home/root"; then umount "$home/root" || umount -l "$home/root"; fi
}

destroy() {
  [ -d "$SANDBOX_ROOT/servers/$1" ] || return 0
  stop "$1" >/dev/null
  rm -rf "${SANDBOX_ROOT:?}/servers/$1"
  echo changed
}

[ "$(id -u)" = 0 ] || die "BP010 the sandbox needs root: run this as root, or provision servers of your own (inventory/example)."
verb=${1:?usage: sandbox.sh requirements|base|network|start|stop|destroy ...}
shift
case "$verb" in
  requirements | base | network | start | supervise | stop | destroy) "$verb" "$@" ;;
  *) die "sandbox.sh: unknown verb $verb" ;;
esac
