# argv: the controller's time; api interface; tunnel address; external interface or -; the units this
# host will have.
. /usr/local/lib/overcloud/lib.sh
now=$1 api=$2 tunnel=$3 external=$4 units=$5
fail() { echo "$1" >&2; exit 1; }

off=$(($(date +%s) - now))
# Tokens and RPC compare times; under a minute may be the way here.
[ "${off#-}" -lt 120 ] || fail "the clock is ${off#-} s off the installer's: see timedatectl"
for unit in $units; do
    [ -e "/usr/lib/systemd/system/$unit.service" ] || [ -e "/etc/init.d/$unit" ] ||
        fail "there is no unit $unit: is the image openstack-node?"
done
[ -d "/sys/class/net/$api" ] || fail "there is no interface $api"
ip -o -4 address show to "$tunnel" | grep -q . || fail "no interface has the address $tunnel"
if [ "$external" != - ]; then
    [ -d "/sys/class/net/$external" ] || fail "there is no interface $external"
    [ "$external" != "$api" ] || fail "$api cannot be the external interface as well"
fi

# Between marks, so that what others wrote stays; cloud-init writes /etc/hosts anew only if told.
fresh=$(mktemp /etc/.hosts.XXXXXX)
trap 'rm -f "$fresh"' EXIT
sed '/^# overcloud {$/,/^# }$/d' /etc/hosts >"$fresh"
cat /etc/overcloud/hosts >>"$fresh"
cmp -s "$fresh" /etc/hosts || { chmod 644 "$fresh"; cat "$fresh" >/etc/hosts; }

# One worker each below 8 GiB, never more than processors: each loads its service anew.
gib=$((($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024 + 512) / 1024))
workers=$((gib / 4 < $(nproc) ? gib / 4 : $(nproc)))
workers=$((workers < 1 ? 1 : workers > 4 ? 4 : workers))
printf 'OC_WORKERS=%d\n' "$workers" >/etc/overcloud/workers

# Each time: whoever wrote the files may have failed before it came here.
sysctl -q -p /etc/sysctl.d/90-overcloud.conf
systemctl daemon-reload
if [ -e /etc/systemd/system/overcloud-vip.service ]; then
    mkdir -p "$WANTS"
    ln -sfn ../overcloud-vip.service "$WANTS/overcloud-vip.service"
    systemctl restart overcloud-vip.service
fi
if [ "$external" != - ]; then
    ip link set "$external" up
fi
echo "workers: $workers, memory: $gib GiB, processors: $(nproc)"
