# argv: the login page's URL; changed or same.
. /usr/local/lib/overcloud/lib.sh
url=$1 changed=$2
settings=/etc/openstack-dashboard/local_settings.d/_9000_overcloud.py
if [ "$changed" = changed ]; then systemctl daemon-reload; fi
begin overcloud-dashboard "$settings" /etc/overcloud/dashboard-uwsgi.ini
go
wait_http 900 "$url" overcloud-dashboard
