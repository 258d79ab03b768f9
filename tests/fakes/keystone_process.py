"""A real Keystone on loopback with TLS, in the environment `identity`.

argv: port (0: a free one), certificate, key, configuration file. Prints the port.
"""

import os
import sys

from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter


def main(port, certificate, key, config):
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = config
    sys.argv = sys.argv[:1]  # oslo.config reads it
    from keystone.server import wsgi as keystone

    app = keystone.initialize_public_application()
    server = wsgi.Server(("127.0.0.1", int(port)), app, numthreads=4)
    server.ssl_adapter = BuiltinSSLAdapter(certificate, key)
    server.prepare()
    print(server.bind_addr[1], flush=True)
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:5])
