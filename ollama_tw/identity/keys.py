"""The server's ed25519 key pair, with which it signs in at registries."""

import contextlib
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

KEY_NAME = "id_ed25519"


def ensure_key(home: Path) -> tuple[Path, bool]:
    """The path of the private key in ``home`` (``~/.ollama``), and whether it was made just now.

    Where there is none, an unencrypted OpenSSH private key is written (mode 0600), and beside it
    ``id_ed25519.pub`` with one authorized-keys line (mode 0644). An existing key is left as it
    is, with or without its public half. Of servers that start at the same moment, one makes the
    key and all use it.

    Raises OSError naming the path of the key where it cannot be written.

    Source: spec/models-and-cli.md section 3.8.
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
        raise OSError(error.errno, f"could not create the key: {error.strerror}", str(private)) from error
    return private, True


def _write_new(path: Path, data: bytes, mode: int) -> bool:
    """Make ``path`` whole in one step; False where it has appeared meanwhile."""
    temporary = _write_temporary(path, data, mode)
    try:
        if os.name == "nt":
            os.rename(temporary, path)  # refuses to replace a file, there
        else:
            os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True


def _write(path: Path, data: bytes, mode: int) -> None:
    """Make or replace ``path`` in one step."""
    os.replace(_write_temporary(path, data, mode), path)


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    """A file beside ``path`` that holds ``data`` on the disk; nobody else could open it before."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.chmod(temporary, mode)
    return temporary
