# argv: Glance's URL.
. /usr/local/lib/overcloud/lib.sh
for folder in images staging tasks; do
    install -d -o glance -g glance -m 0750 "/var/lib/glance/$folder"
done
begin glance-api /etc/glance/glance-api.conf /etc/glance/glance-api-uwsgi.ini
go
wait_http 900 "$1" glance-api
