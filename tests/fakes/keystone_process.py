"""A real Keystone on loopback with TLS, in the environment `identity`.

argv: port (0: a free one), certificate, key, configuration file. Prints the port. Where there is
no database yet it is made first by what `keystone-manage` runs, with the administrator's password
from $OS_BOOTSTRAP_PASSWORD.
"""

import os
import subprocess
import sys
from pathlib import Path

from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter


def prepare(config):
    from keystone.cmd import cli
    from oslo_config import cfg

    keys = ["fernet_setup", "--keystone-user", "root", "--keystone-group", "root"]
    for command in (["db_sync"], keys, ["bootstrap"]):
        cli.main(["keystone-manage", "--config-file", config, *command])
        cfg.CONF.reset()


def main(port, certificate, key, config):
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = config
    sys.argv = sys.argv[:1]  # oslo.config reads it
    if not Path(config).with_name("keystone.db").exists():
        subprocess.run([sys.executable, __file__, config], check=True)
    from keystone.server import wsgi as keystone

    app = keystone.initialize_public_application()
    server = wsgi.Server(("127.0.0.1", int(port)), app, numthreads=4)
    server.ssl_adapter = BuiltinSSLAdapter(certificate, key)
    server.prepare()
    print(server.bind_addr[1], flush=True)
    server.serve()


if __name__ == "__main__":
    if len(sys.argv) == 2:  # in a process of its own: oslo.config's options are global
        prepare(sys.argv[1])
    else:
        main(*sys.argv[1:5])
