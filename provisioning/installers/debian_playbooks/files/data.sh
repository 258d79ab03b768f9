# argv: the VIP, where RabbitMQ listens.
. /usr/local/lib/overcloud/lib.sh
vip=$1
manage=/usr/local/lib/overcloud/manage.py
schema=/etc/overcloud/schema
stamps=/var/lib/overcloud/schema
mkdir -p "$stamps"

begin mariadb /etc/mysql/mariadb.conf.d/99-overcloud.cnf
begin rabbitmq-server /etc/rabbitmq/{rabbitmq.conf,rabbitmq-env.conf,definitions.json}
begin memcached /etc/memcached.conf
go
wait_unit 900 mariadb
mariadb </etc/overcloud/databases.sql

# count TABLE WHERE: rows; 0 for a table that is not there.
count() { mariadb -N -e "SELECT COUNT(*) FROM $1 WHERE $2" 2>/dev/null || echo 0; }
has_tables() { [ "$(count information_schema.tables "table_schema = '$1'")" -gt 2 ]; }
has_version() {
    local of="table_schema = '$1' AND table_name = 'alembic_version'"
    [ "$(count information_schema.tables "$of")" = 1 ]
}

# tables PROJECT PACKAGE MODULE PROGRAM: once for each version of the package, and when the database
# lost its tables. Groups of commands come on stdin.
tables() {
    local project=$1 package=$2 module=$3 program=$4 version
    version=$(dpkg-query -W -f '${Version}' "$package")
    if [ "$(cat "$stamps/$project" 2>/dev/null)" = "$version" ] && has_tables "$project"; then
        return
    fi
    python3 "$manage" "$project" "$module" "$program" || return 1
    if [ "$project" = nova ] && ! has_version nova_cell0; then
        # Its tables are the cell's, which has no rows yet: a copy saves a hundred migrations. What
        # says that they are there comes last.
        mariadb-dump --ignore-table=nova.alembic_version nova | mariadb nova_cell0 || return 1
        mariadb-dump nova alembic_version | mariadb nova_cell0 || return 1
    fi
    echo "$version" >"$stamps/$project"
    echo "tables of $project: $version, $SECONDS s"
}

install -d -o keystone -g keystone -m 0750 /etc/keystone/{fernet,credential}-keys
declare -A jobs
tables keystone keystone keystone.cmd.manage:main keystone-manage <<END & jobs[keystone]=$!
[[["--config-file", "$schema/keystone.conf", "db_sync"],
  ["--config-file", "$schema/keystone.conf", "fernet_setup",
   "--keystone-user", "keystone", "--keystone-group", "keystone"],
  ["--config-file", "$schema/keystone.conf", "credential_setup",
   "--keystone-user", "keystone", "--keystone-group", "keystone"]]]
END
# Mappings that name no password: what the cell's services are told holds.
db='{scheme}://{username}:{password}@{hostname}'
cell0= cell1=
if has_version nova_cell0; then
    cell0=", [\"--config-file\", \"$schema/nova-cell0.conf\", \"db\", \"sync\", \"--local_cell\"]"
fi
# create_cell refuses what is there already.
if [ "$(count nova_api.cell_mappings "name = 'cell1'")" = 0 ]; then
    cell1=", [\"--config-file\", \"$schema/nova.conf\", \"cell_v2\", \"create_cell\",
        \"--name\", \"cell1\", \"--database_connection\", \"$db/nova?{query}\",
        \"--transport-url\", \"{scheme}://{username}:{password}@{hostname}:{port}/\"]"
fi
tables nova nova-common nova.cmd.manage:main nova-manage <<END & jobs[nova]=$!
[[["--config-file", "$schema/nova.conf", "api_db", "sync"],
  ["--config-file", "$schema/nova.conf", "db", "sync", "--local_cell"]$cell0],
 [["--config-file", "$schema/nova.conf", "cell_v2", "map_cell0",
   "--database_connection", "$db/nova_cell0?{query}"]$cell1]]
END
migrate=neutron.db.migration.cli:main
tables neutron neutron-common "$migrate" neutron-db-manage <<END & jobs[neutron]=$!
[[["--config-file", "$schema/neutron.conf", "upgrade", "heads"]]]
END
tables glance glance-common glance.cmd.manage:main glance-manage <<END & jobs[glance]=$!
[[["--config-file", "$schema/glance.conf", "db_sync"]]]
END
manager=placement.cmd.manage:main
tables placement placement-common "$manager" placement-manage <<END & jobs[placement]=$!
[[["--config-file", "$schema/placement.conf", "db", "sync"]]]
END
failed=
for project in "${!jobs[@]}"; do
    wait "${jobs[$project]}" || failed+=" $project"
done
[ -z "$failed" ] || { echo "no tables of:$failed" >&2; exit 1; }

wait_unit 900 rabbitmq-server
wait_port 300 "$vip" 5672 rabbitmq-server
wait_port 300 127.0.0.1 11211 memcached
