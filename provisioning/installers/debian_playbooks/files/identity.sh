# argv: Keystone's URL.
. /usr/local/lib/overcloud/lib.sh
url=$1
manage=/usr/local/lib/overcloud/manage.py
begin keystone /etc/keystone/keystone.conf /etc/keystone/keystone-uwsgi.ini
begin nginx /etc/nginx/nginx.conf /etc/overcloud/vip.pem /etc/overcloud/vip.key
go
# The first administrator goes by the database: nobody could ask Keystone to make it. The secret is
# an argument of a function there, not of a process.
python3 - /etc/overcloud/identity.json <<'END' |
import json
import sys
told = json.load(open(sys.argv[1]))
print(json.dumps([[["--config-file", "/etc/keystone/keystone.conf", "bootstrap",
    "--bootstrap-password", told["admin"], "--bootstrap-region-id", told["region"],
    "--bootstrap-public-url", told["url"], "--bootstrap-internal-url", told["url"]]]]))
END
    python3 "$manage" keystone keystone.cmd.manage:main keystone-manage
wait_unit 300 nginx
wait_http 900 "$url" keystone
python3 /usr/local/lib/overcloud/identity.py </etc/overcloud/identity.json
