# argv: Nova's URL; 1 on the control node; the compute driver, - for none; the compute hosts.
. /usr/local/lib/overcloud/lib.sh
url=$1 control=$2 driver=$3 hosts=$4
conf=/etc/nova/nova.conf
if [ "$driver" = libvirt ]; then begin libvirtd; fi
if [ "$control" = 1 ]; then
    db=/etc/nova/nova-control.conf
    begin nova-conductor "$conf" "$db"
    begin nova-scheduler "$conf" "$db"
    begin nova-api "$conf" "$db" /etc/nova/nova-api-uwsgi.ini
fi
if [ "$driver" != - ]; then begin nova-compute "$conf" /etc/nova/nova-compute.conf; fi
go
if [ "$control" = 1 ]; then wait_http 900 "$url" nova-api; fi
if [ "$driver" != - ]; then wait_unit 1200 nova-compute; fi
[ "$control" = 1 ] || exit 0
wait_unit 900 nova-conductor
wait_unit 900 nova-scheduler

# The scheduler maps a new host by itself; asking for it is one more minute of nova-manage.
end=$((SECONDS + 900))
while :; do
    mapped=$(mariadb -N -e 'SELECT host FROM nova_api.host_mappings')
    missing=$(comm -23 <(tr ' ' '\n' <<<"$hosts" | sort) <(sort <<<"$mapped") | xargs)
    [ -n "$missing" ] || break
    [ "$SECONDS" -lt "$end" ] || { echo "no compute service of: $missing" >&2; exit 1; }
    sleep 2
done
zones=/etc/overcloud/zones.json
told=/var/lib/overcloud/zones.json
if [ "$(cat "$zones")" != "$(cat "$told" 2>/dev/null || echo '{}')" ]; then
    OS_CLOUD=overcloud python3 /usr/local/lib/overcloud/zones.py <"$zones"
    install -m 0644 "$zones" "$told"
fi
