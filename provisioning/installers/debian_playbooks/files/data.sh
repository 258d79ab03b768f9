# argv: the VIP, where RabbitMQ listens.
. /usr/local/lib/overcloud/lib.sh
vip=$1
manage=/usr/local/lib/overcloud/manage.py
schema=/etc/overcloud/schema
stamps=/var/lib/overcloud/schema


if [ -n "$(find /etc/systemd/system/epmd.socket.d -newer "$stamps" 2>/dev/null)" ]; then
    systemctl daemon-reload
fi
begin mariadb /etc/mysql/mariadb.conf.d/99-overcloud.cnf
begin rabbitmq-server /etc/rabbitmq/{rabbitmq.conf,rabbitmq-env.conf,definitions.json}
begin memcached /etc/memcached.conf
go
wait_unit 900 mariadb
mariadb </etc/overcloud/databases.sql

# tables PROJECT PACKAGE DATABASE COMMAND...: once for each version of the package, and when the
# database lost its tables. Groups of commands come on stdin.
tables() {
    local project=$1 package=$2 database=$3 version there
    shift 3
    version=$(dpkg-query -W -f '${Version}' "$package")
    there=$(mariadb -N -e "SELECT COUNT(*) FROM information_schema.tables
                           WHERE table_schema = '$database'")
    if [ "$(cat "$stamps/$project" 2>/dev/null)" = "$version" ] && [ "$there" -gt 2 ]; then
        return
    fi
    python3 "$manage" "$project" "$@" || return 1
    echo "$version" >"$stamps/$project"
    echo "tables of $project: $version, $SECONDS s"
}

# A mapping that names no password: what the cell's services are told holds.
db='{scheme}://{username}:{password}@{hostname}'
install -d -o keystone -g keystone -m 0750 /etc/keystone/fernet-keys /etc/keystone/credential-keys
declare -A jobs
tables keystone keystone keystone keystone.cmd.manage:main keystone-manage <<END & jobs[keystone]=$!
[[["--config-file", "$schema/keystone.conf", "db_sync"],
  ["--config-file", "$schema/keystone.conf", "fernet_setup",
   "--keystone-user", "keystone", "--keystone-group", "keystone"],
  ["--config-file", "$schema/keystone.conf", "credential_setup",
   "--keystone-user", "keystone", "--keystone-group", "keystone"]]]
END
tables nova nova-common nova nova.cmd.manage:main nova-manage <<END & jobs[nova]=$!
[[["--config-file", "$schema/nova.conf", "api_db", "sync"],
  ["--config-file", "$schema/nova.conf", "db", "sync", "--local_cell"],
  ["--config-file", "$schema/nova-cell0.conf", "db", "sync", "--local_cell"]],
 [["--config-file", "$schema/nova.conf", "cell_v2", "map_cell0",
   "--database_connection", "$db/nova_cell0?{query}"]]]
END
tables neutron neutron-common neutron neutron.db.migration.cli:main neutron-db-manage <<END & jobs[neutron]=$!
[[["--config-file", "$schema/neutron.conf", "upgrade", "heads"]]]
END
tables glance glance-common glance glance.cmd.manage:main glance-manage <<END & jobs[glance]=$!
[[["--config-file", "$schema/glance.conf", "db_sync"]]]
END
tables placement placement-common placement placement.cmd.manage:main placement-manage <<END & jobs[placement]=$!
[[["--config-file", "$schema/placement.conf", "db", "sync"]]]
END
failed=
for project in "${!jobs[@]}"; do
    wait "${jobs[$project]}" || failed+=" $project"
done
[ -z "$failed" ] || { echo "no tables of:$failed" >&2; exit 1; }

# create_cell refuses what is there already, so the mapping is asked for first.
cells=$(mariadb -N -e "SELECT COUNT(*) FROM nova_api.cell_mappings WHERE name = 'cell1'")
if [ "$cells" = 0 ]; then
    python3 "$manage" nova nova.cmd.manage:main nova-manage <<END
[[["--config-file", "$schema/nova.conf", "cell_v2", "create_cell", "--name", "cell1",
   "--database_connection", "$db/nova?{query}",
   "--transport-url", "{scheme}://{username}:{password}@{hostname}:{port}/"]]]
END
fi
wait_unit 900 rabbitmq-server
wait_port 300 "$vip" 5672 rabbitmq-server
wait_port 300 127.0.0.1 11211 memcached
