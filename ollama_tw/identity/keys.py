"""Creation of the server's ed25519 key pair."""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ollama_tw.errors import reason_of
from ollama_tw.posix import place_new

KEY_NAME = "id_ed25519"


def ensure_key(home: Path) -> tuple[Path, bool]:
    """Return the path of the private key in ``home`` (``~/.ollama``), and whether it was created now.

    A missing key is created as an unencrypted OpenSSH private key (mode 0600), with its public key in
    ``id_ed25519.pub`` as a line of ``authorized_keys`` (mode 0644). An existing key is left unchanged, with
    or without its public key. Servers that start at the same time share the pair that one of them creates.

    Raises OSError with the path of the key if it cannot be written.

    Source: ollama: cmd/cmd.go, initializeKeypair.
    """
    private = home / KEY_NAME
    try:
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        if private.exists():
            return private, False
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        if not _write_new(private, pem, 0o600):
            return private, False
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
        _write(private.with_suffix(".pub"), line, 0o644)
    except OSError as error:
        raise OSError(error.errno, f"could not create the key: {reason_of(error)}", str(private)) from error
    return private, True


def _write_new(path: Path, data: bytes, mode: int) -> bool:
    """Create ``path`` atomically; return False if it exists by now."""
    temporary = _write_temporary(path, data, mode)
    try:
        place_new(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write(path: Path, data: bytes, mode: int) -> None:
    """Create or replace ``path`` atomically."""
    _write_temporary(path, data, mode).replace(path)


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    """Write ``data`` to a new file beside ``path`` and sync it; only the owner can read it meanwhile."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.chmod(mode)
    return temporary
