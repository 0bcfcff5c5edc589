"""Reverse proxy of a registry: TLS, tokens for known keys, and a record of the requests."""

import base64
import hashlib
import http.client
import json
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from tests.registry.authority import Authority

ISSUER = "test issuer"
SERVICE = "test registry"
_PIECE = 1 << 16
# Base64 of the hexadecimal digest of an empty body.
_NO_BODY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


class TokenIssuer:
    """Issues tokens for requests signed with a key of ``known_keys`` (lines of authorized_keys).

    ``granted`` contains the scopes of every token, ``refused`` the reasons of refusals.
    """

    def __init__(self, authority: Authority) -> None:
        self._certificate, self._key = authority.issue("issuer.example")
        self.known_keys: set[str] = set()
        self.granted: list[list[str]] = []
        self.refused: list[str] = []
        self._nonces: set[str] = set()

    def answer(self, url: str, authorization: str) -> tuple[int, dict[str, str]]:
        """Return the reply to a token request."""
        fault = self._fault(url, authorization)
        if fault:
            self.refused.append(fault)
            return 401, {"details": fault}
        scopes = parse_qs(urlsplit(url).query).get("scope", [])
        self.granted.append(scopes)
        return 200, {"token": self._token(scopes)}

    def _fault(self, url: str, authorization: str) -> str:
        public, _, signature = authorization.partition(":")
        if f"ssh-ed25519 {public}" not in self.known_keys:
            return "unknown key"
        wire = base64.b64decode(public)
        kind = struct.unpack(">I", wire[:4])[0]
        key = Ed25519PublicKey.from_public_bytes(wire[4 + kind + 4 :])
        try:
            key.verify(base64.b64decode(signature, validate=True), f"GET,{url},{_NO_BODY}".encode())
        except InvalidSignature:
            return "wrong signature"
        query = parse_qs(urlsplit(url).query)
        if query["service"] != [SERVICE] or abs(time.time() - int(query["ts"][0])) > 60:
            return "for another service or another time"
        nonce = query["nonce"][0]
        if nonce in self._nonces or len(base64.urlsafe_b64decode(nonce + "==")) != 16:
            return "used before"
        self._nonces.add(nonce)
        return ""

    def _token(self, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        chain = base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()
        header = {"typ": "JWT", "alg": "ES256", "x5c": [chain]}
        claims = {
            "iss": ISSUER, "sub": "", "aud": SERVICE, "exp": now + 300, "nbf": now - 10, "iat": now,
            "jti": str(len(self.granted)), "access": access,
        }  # fmt: skip
        text = f"{_url64(json.dumps(header).encode())}.{_url64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class ForwardedRequest:
    """A request that was forwarded with a body of ``sent`` bytes."""

    method: str
    path: str
    status: int
    sent: int
    headers: dict[str, str] = field(repr=False)


class QuietServer(ThreadingHTTPServer):
    """A server that does not report disconnected clients."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


class Gateway:
    """Forwards requests to the registry ``target``; with an issuer, its realm is ``/token``.

    Set ``target`` (``address:port``) before the first request. ``forwarded`` contains each request before
    its reply is sent.
    """

    def __init__(self, pem: str | None = None, issuer: TokenIssuer | None = None) -> None:
        self.target = ""
        self.issuer = issuer
        self.forwarded: list[ForwardedRequest] = []
        self.scheme = "http" if pem is None else "https"
        gateway = self

        class Handler(_Handler):
            owner = gateway

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Gateway
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _forward(self) -> None:
        if self.owner.issuer is not None and self.path.startswith("/token"):
            url = f"{self.owner.scheme}://{self.headers['Host']}{self.path}"
            status, reply = self.owner.issuer.answer(url, self.headers.get("Authorization", ""))
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        length = int(self.headers.get("Content-Length") or 0)
        connection = http.client.HTTPConnection(self.owner.target, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.putheader("X-Forwarded-Proto", self.owner.scheme)
        connection.endheaders()
        left = length
        while left:
            piece = self.rfile.read(min(left, _PIECE))
            if not piece:
                break
            connection.send(piece)
            left -= len(piece)
        response = connection.getresponse()
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() != "transfer-encoding":
                self.send_header(name, value)
        if response.getheader("Content-Length") is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.forwarded.append(
            ForwardedRequest(self.command, self.path, response.status, length - left, headers)
        )
        self.end_headers()
        while piece := response.read(_PIECE):
            self.wfile.write(piece)
        connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward
