# argv: the login page's URL.
. /usr/local/lib/overcloud/lib.sh
url=$1
settings=/etc/openstack-dashboard/local_settings.d/_9000_overcloud.py
systemctl daemon-reload
begin overcloud-dashboard "$settings" /etc/overcloud/dashboard-uwsgi.ini
go
wait_http 900 "$url" overcloud-dashboard
