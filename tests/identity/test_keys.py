"""Creation of the key pair."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from ollama_tw.identity.keys import ensure_key


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_creates_a_missing_key_pair(tmp_path: Path) -> None:
    home = tmp_path / "ada" / ".ollama"

    path, created = ensure_key(home)

    assert (path, created) == (home / "id_ed25519", True)
    assert sorted(entry.name for entry in home.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    assert path.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    key = load_ssh_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)

    line = (home / "id_ed25519.pub").read_bytes()
    kind, encoded = line.split(b" ")
    assert kind == b"ssh-ed25519"
    assert encoded.startswith(b"AAAAC3NzaC1lZDI1NTE5")
    assert encoded.endswith(b"\n")
    assert base64.b64decode(encoded)[-32:] == key.public_key().public_bytes_raw()
    load_ssh_public_key(line)


def test_only_the_owner_can_read_the_private_key(tmp_path: Path) -> None:
    path, _ = ensure_key(tmp_path / ".ollama")
    assert permissions(path) == 0o600
    assert permissions(path.with_suffix(".pub")) == 0o644
    assert permissions(path.parent) & 0o700 == 0o700
    assert permissions(path.parent) & 0o022 == 0


def test_keeps_an_existing_key(tmp_path: Path) -> None:
    path, _ = ensure_key(tmp_path)
    before = path.read_bytes()
    path.with_suffix(".pub").unlink()

    assert ensure_key(tmp_path) == (path, False)
    assert path.read_bytes() == before
    assert not path.with_suffix(".pub").exists()


def test_replaces_a_stale_public_key(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519.pub").write_text("ssh-ed25519 stale\n")
    ensure_key(tmp_path)
    assert "stale" not in (tmp_path / "id_ed25519.pub").read_text()


def test_concurrent_starts_share_one_pair(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: ensure_key(tmp_path), range(8)))

    assert [created for _, created in results].count(True) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    private = load_ssh_private_key((tmp_path / "id_ed25519").read_bytes(), password=None)
    public = load_ssh_public_key((tmp_path / "id_ed25519.pub").read_bytes())
    assert private.public_key() == public


def test_names_a_home_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not create the key: not a directory") as raised:
        ensure_key(tmp_path / "file" / ".ollama")
    assert raised.value.filename == str(tmp_path / "file" / ".ollama" / "id_ed25519")
    assert isinstance(raised.value, NotADirectoryError)
