"""The OpenID provider of the local stack, on Authlib: discovery, keys, sign-in with PKCE, and a token for a password.

Everybody may sign in as everybody: it is for this machine, and listens there alone. Its one rule: all that is signed or
checked is the library's doing.
"""

import argparse
import os
import secrets
from typing import Any

import authlib.integrations.flask_oauth2 as authlib_flask
import authlib.oauth2.rfc6749 as authlib_oauth
from flask import Flask, Response, jsonify, render_template_string, request
from joserfc.jwk import RSAKey
from werkzeug.serving import WSGIRequestHandler, make_server

from local.issuer.grants import GRANTS, SCOPES, Client, User, named, register
from local.issuer.people import CLIENT_ID, PEOPLE

HOST = "127.0.0.1"

# The library has no types.
_flask: Any = authlib_flask
_oauth: Any = authlib_oauth

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · local stack</title>
<style>body{font:1rem/1.5 system-ui;max-width:24rem;margin:4rem auto;padding:0 1rem}a{display:block;padding:.6rem 1rem;
margin:.5rem 0;border:1px solid;border-radius:.5rem;text-decoration:none}</style>
<h1>Sign in</h1><p>This is the issuer of the local stack. Everybody may be anybody here.</p>
{% for person in people %}<a href="?{{ query }}&amp;login={{ person.user_name }}">Sign in as {{ person.name }}
({{ person.tier }})</a>{% endfor %}</html>"""


def application(issuer: str) -> Flask:
    """The provider that calls itself `issuer`, with a key of its own."""
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": secrets.token_hex(8)})
    app = Flask(__name__)
    server = _flask.AuthorizationServer(app, _client, _forget)
    register(server, issuer, key)

    @app.get("/.well-known/openid-configuration")
    def discovery() -> Response:  # pyright: ignore[reportUnusedFunction]
        return jsonify(_description(issuer))

    @app.get("/jwks")
    def jwks() -> Response:  # pyright: ignore[reportUnusedFunction]
        return jsonify({"keys": [key.as_dict(private=False)]})

    @app.get("/authorize")
    def authorize() -> Any:  # pyright: ignore[reportUnusedFunction]
        try:
            grant = server.get_consent_grant(end_user=None)
        except _oauth.OAuth2Error as error:
            return jsonify(dict(error.get_body())), 400
        person = named(request.args.get("login"))
        if person is None:
            query = request.query_string.decode()
            return render_template_string(_PAGE, people=PEOPLE, query=query)
        return server.create_authorization_response(grant=grant, grant_user=User(person))

    @app.post("/token")
    def token() -> Any:  # pyright: ignore[reportUnusedFunction]
        return server.create_token_response()

    @app.after_request
    def readable(response: Response) -> Response:  # pyright: ignore[reportUnusedFunction]
        """Let pages of other origins read the answers, because a page exchanges its code for tokens itself."""
        response.headers["access-control-allow-origin"] = "*"
        return response

    return app


def _client(client_id: str) -> Client | None:
    return Client() if client_id == CLIENT_ID else None


def _forget(_token: Any, _request: Any) -> None:
    """Store no token: it holds everything that its readers need."""


def _description(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
        "response_types_supported": ["code"],
        "grant_types_supported": list(GRANTS),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": list(SCOPES),
    }


class _Quiet(WSGIRequestHandler):
    """Logs no request: an address may hold a code."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


def main() -> None:
    """Serve on the socket that was inherited until ended."""
    parser = argparse.ArgumentParser(prog="python -m local.issuer.server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fd", type=int, required=True, help="the descriptor of the socket that listens there")
    options = parser.parse_args()
    port: int = options.port
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # this machine alone
    app = application(f"http://{HOST}:{port}")
    make_server(HOST, port, app, threaded=True, request_handler=_Quiet, fd=options.fd).serve_forever()


if __name__ == "__main__":
    main()
