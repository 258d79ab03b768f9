# argv: Placement's URL.
. /usr/local/lib/overcloud/lib.sh
begin placement-api /etc/placement/placement.conf /etc/placement/placement-api-uwsgi.ini
go
wait_http 900 "$1" placement-api
