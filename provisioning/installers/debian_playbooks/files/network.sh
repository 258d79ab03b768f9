# argv: Neutron's URL.
. /usr/local/lib/overcloud/lib.sh
url=$1
. /etc/overcloud/network
conf=/etc/neutron/neutron.conf
ml2=/etc/neutron/plugins/ml2/ml2_conf.ini

begin openvswitch-switch
if [ "$control" = 1 ]; then begin ovn-central; fi
go
wait_unit 600 openvswitch-switch
set_ids=(
    "external_ids:system-id=$name" "external_ids:hostname=$name"
    "external_ids:ovn-remote=tcp:$vip:6642"
    "external_ids:ovn-encap-type=geneve" "external_ids:ovn-encap-ip=$tunnel"
    # The usual 5 s are too few for a host whose processors are all busy.
    "external_ids:ovn-remote-probe-interval=180000" "external_ids:ovn-openflow-probe-interval=60"
)
# Of ovs-ctl, which takes a random one else, each time it has none.
printf '%s\n' "$name" >/etc/openvswitch/system-id.conf
change=(-- set open_vswitch . "${set_ids[@]}")
change+=(-- --may-exist add-br br-int -- set bridge br-int fail_mode=secure)
# os-vif's, on the loopback interface.
change+=(-- set-manager ptcp:6640:127.0.0.1)
if [ -n "$external" ]; then
    change+=(-- --may-exist add-br br-ex -- --may-exist add-port br-ex "$external")
    change+=(-- set open_vswitch . "external_ids:ovn-bridge-mappings=$physnet:br-ex")
    if [ "$gateway" = 1 ]; then
        change+=(-- set open_vswitch . external_ids:ovn-cms-options=enable-chassis-as-gw)
    fi
else
    change+=(-- remove open_vswitch . external_ids ovn-bridge-mappings)
    change+=(-- remove open_vswitch . external_ids ovn-cms-options)
fi
ovs-vsctl --timeout=120 "${change[@]:1}"
if [ "$control" = 1 ]; then
    for try in $(seq 120); do
        [ -S /run/ovn/ovnnb_db.sock ] && [ -S /run/ovn/ovnsb_db.sock ] && break
        sleep 1
    done
    ovn-nbctl --timeout=120 --no-leader-only set-connection ptcp:6641:127.0.0.1 -- \
        set connection . inactivity_probe=180000
    ovn-sbctl --timeout=120 --no-leader-only set-connection "ptcp:6642:$vip" -- \
        set connection . inactivity_probe=180000
fi
begin ovn-host
if [ "$control" = 1 ]; then begin neutron-api "$conf" "$ml2" /etc/neutron/neutron-api-uwsgi.ini; fi
go
if [ "$control" = 1 ]; then
    wait_http 900 "$url" neutron-api
    # What Neutron's API and OVN's databases drifted apart by is mended by it; nobody waits for it.
    begin neutron-ovn-maintenance-worker "$conf" "$ml2"
    go
fi
wait_unit 300 ovn-host
wait_unit 300 ovn-controller
