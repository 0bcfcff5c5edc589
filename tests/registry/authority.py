"""A private certificate authority for tests."""

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet.ssl import PrivateCertificate

_NOW = datetime.datetime.now(datetime.UTC)

_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A private certificate authority; ``bundle`` is its certificate as a file."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issuer = _name("Test authority")
        certificate = self._certificate(
            self._issuer,
            self._key,
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (_SIGNS_CERTIFICATES, True),
            (x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False),
        )
        self.bundle = directory / "authority.pem"
        self.bundle.write_bytes(b"# A comment\n" + certificate.public_bytes(Encoding.PEM))

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *extensions: tuple[x509.ExtensionType, bool],
    ) -> x509.Certificate:
        """Return a certificate with ``extensions``, each with whether it is critical (RFC 5280, 4.2)."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - datetime.timedelta(days=1))
            .not_valid_after(_NOW + datetime.timedelta(days=1))
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        for extension, critical in (*extensions, (issuer, False)):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, host: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Return a certificate for ``host``, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        identity: x509.GeneralName
        try:
            identity = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            identity = x509.DNSName(host)
        certificate = self._certificate(_name(host), key, (x509.SubjectAlternativeName([identity]), False))
        return certificate, key

    def pem(self, host: str) -> bytes:
        """Return a certificate for ``host`` and its key as one PEM text."""
        certificate, key = self.issue(host)
        return certificate.public_bytes(Encoding.PEM) + key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )

    def server(self, host: str) -> Any:
        """Return Twisted's TLS context of a server with the name ``host``."""
        return PrivateCertificate.loadPEM(self.pem(host)).options()
