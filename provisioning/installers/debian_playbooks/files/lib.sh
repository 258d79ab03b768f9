# Sourced by the stages' scripts: units are begun all at once, then waited for one by one.
set -euo pipefail
WANTS=/etc/systemd/system/multi-user.target.wants

# begin UNIT FILE...: on at each boot, and started now; again, if one of its files is newer than it.
# Links, because each `systemctl enable` reloads systemd: seconds, a dozen of times.
declare -a FRESH=() STALE=()
begin() {
    local unit=$1 since file
    shift
    mkdir -p "$WANTS"
    file=/usr/lib/systemd/system/$unit.service
    if [ -f "/etc/systemd/system/$unit.service" ]; then file=../$unit.service; fi
    ln -sfn "$file" "$WANTS/$unit.service"
    case $(systemctl is-active "$unit" || true) in
        active | activating | reloading) ;;
        *) FRESH+=("$unit.service"); return ;;
    esac
    since=$(systemctl show --value --timestamp=unix -p InactiveExitTimestamp "$unit")
    for file in "$@" "/etc/systemd/system/$unit.service.d/overcloud.conf"; do
        if [ -e "$file" ] && [ "$(stat -c %Z "$file")" -ge "${since#@}" ]; then
            STALE+=("$unit.service")
            return
        fi
    done
}

go() {
    if [ ${#STALE[@]} -gt 0 ]; then systemctl restart --no-block "${STALE[@]}"; fi
    if [ ${#FRESH[@]} -gt 0 ]; then
        systemctl reset-failed "${FRESH[@]}" 2>/dev/null || true
        systemctl start --no-block "${FRESH[@]}"
    fi
    FRESH=() STALE=()
}

# wait_unit SECONDS UNIT: until it is active and has no job left.
wait_unit() {
    local end=$((SECONDS + $1)) unit=$2
    until [ "$(systemctl show --value -p Job -p ActiveState "$unit" | xargs)" = active ]; do
        if [ "$SECONDS" -ge "$end" ]; then _late "$unit is not active" "$unit"; fi
        sleep 1
    done
}

# wait_port SECONDS ADDRESS PORT UNIT: until it takes connections.
wait_port() {
    local end=$((SECONDS + $1))
    until (exec 3<>"/dev/tcp/$2/$3") 2>/dev/null; do
        if [ "$SECONDS" -ge "$end" ]; then _late "$2:$3 does not answer" "$4"; fi
        sleep 1
    done
}

# wait_http SECONDS URL UNIT: until it answers at all, with what is no fault of the server's.
wait_http() {
    local end=$((SECONDS + $1)) code
    while :; do
        code=$(curl -s -o /dev/null -m 60 -w '%{http_code}' "$2" || true)
        case $code in [234]??) return ;; esac
        if [ "$SECONDS" -ge "$end" ]; then _late "$2 answers $code" "$3"; fi
        sleep 1
    done
}

_late() {
    echo "$1 in time; systemd says:" >&2
    systemctl --no-pager -l --lines=15 status "$2" >&2 || true
    exit 1
}
