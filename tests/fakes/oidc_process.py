"""A real OIDC provider on loopback with TLS: oidc-provider-mock, in the environment `identity`.

argv: port (0: a free one), certificate, key, algorithm, seconds a token lasts, "device" or "".
Prints the port. What that provider lacks is added from Authlib, which it is made of: a `kid`,
PKCE, ID tokens when a login is renewed, and the device grant (RFC 8628). People log in by POST
to the authorization form or to /device, without a password.
"""

import sys
from datetime import timedelta

import flask
import oidc_provider_mock
from authlib.integrations import flask_oauth2
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc8628 import (
    DEVICE_CODE_GRANT_TYPE,
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
    DeviceCredentialDict,
)
from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter
from joserfc.jwk import ECKey
from oidc_provider_mock import _app, _storage

CHALLENGES, DEVICES, CONFIRMED = {}, {}, {}


class Pkce(CodeChallenge):
    def get_authorization_code_challenge(self, code):
        return CHALLENGES.get(code.code, ("", ""))[0]

    def get_authorization_code_challenge_method(self, code):
        return CHALLENGES.get(code.code, ("", ""))[1]


class OpenId(_app.OpenIDCode):
    def get_jwt_config(self, grant, client=None):
        key = _storage.storage.jwk.as_dict(is_private=True)
        return super().get_jwt_config(grant, client) | {"kid": key["kid"]}


METHODS = ["none", "client_secret_basic", "client_secret_post"]  # the CLI is a public client


class RenewGrant(_app.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


class CodeGrant(_app.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def save_authorization_code(self, code, request):
        super().save_authorization_code(code, request)
        data = request.payload.data
        CHALLENGES[code] = (data.get("code_challenge"), data.get("code_challenge_method"))


class DeviceEndpoint(DeviceAuthorizationEndpoint):
    INTERVAL = 1

    def get_verification_uri(self):
        return flask.request.host_url + "device"

    def save_device_credential(self, client_id, scope, data):
        DEVICES[data["device_code"]] = DeviceCredentialDict(
            data | {"client_id": client_id, "scope": scope, "expires_at": 2**40}
        )


class DeviceGrant(DeviceCodeGrant):
    def query_device_credential(self, device_code):
        return DEVICES.get(device_code)

    def query_user_grant(self, user_code):
        return CONFIRMED.get(user_code)

    def should_slow_down(self, credential):
        return False


class Server(flask_oauth2.AuthorizationServer):
    def register_grant(self, grant, extensions=None):
        openid = OpenId(require_nonce=False, token_max_age=timedelta(seconds=LIFE))
        more = [Pkce(required=False)] if grant is CodeGrant else []
        super().register_grant(grant, [openid, *more])

    def init_app(self, app, **kwargs):
        super().init_app(app, **kwargs)
        super().register_grant(
            DeviceGrant, [OpenId(require_nonce=False, token_max_age=timedelta(seconds=LIFE))]
        )
        self.register_endpoint(DeviceEndpoint)


def made(device):
    _app.AuthorizationCodeGrant, _app.OpenIDCode = CodeGrant, OpenId
    _app.RefreshTokenGrant = RenewGrant
    _app.flask_oauth2.AuthorizationServer = Server
    _storage.Client.GRANT_TYPES_SUPPORTED += (DEVICE_CODE_GRANT_TYPE,)
    app = oidc_provider_mock.app(access_token_max_age=timedelta(seconds=LIFE))

    def server():
        return flask.g._authlib_authorization_server

    @app.before_request
    def token_by_device():
        form = flask.request.form
        if form.get("grant_type") == DEVICE_CODE_GRANT_TYPE:
            return server().create_token_response()

    @app.post("/oauth2/device")
    def device_code():
        return server().create_endpoint_response("device_authorization")

    @app.post("/device")
    def confirm():
        form = flask.request.form
        user = _storage.storage.get_user(form["sub"])
        CONFIRMED[form["user_code"]] = (user, form.get("action") != "deny")
        return ""

    @app.after_request
    def tell(response):
        if device and flask.request.path.startswith("/.well-known/"):
            told = response.get_json()
            told["device_authorization_endpoint"] = flask.request.host_url + "oauth2/device"
            response.set_data(flask.json.dumps(told))
        return response

    return app


def main(port, certificate, key, algorithm, device):
    if algorithm != "RS256":
        _app._JWS_ALG = algorithm
        _storage.jose.RSAKey.generate_key = lambda is_private: Ec()
    server = wsgi.Server(("127.0.0.1", int(port)), made(device), numthreads=8)
    server.ssl_adapter = BuiltinSSLAdapter(certificate, key)
    server.prepare()
    print(server.bind_addr[1], flush=True)
    server.serve()


class Ec:
    """An EC key where the provider makes an RSA one."""

    def __init__(self):
        self.key = ECKey.generate_key("P-256", auto_kid=True)

    def as_dict(self, is_private=False, **_):
        return self.key.as_dict(private=is_private)


if __name__ == "__main__":
    LIFE = int(sys.argv[5])
    main(*sys.argv[1:5], sys.argv[6])
