"""Hostile registries and man-in-the-middle attackers.

The CVE numbers name the vulnerabilities of Ollama and other servers that each test covers.
"""

import ipaddress
import json
import re
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, IHostnameResolver
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

import ollama_tw
from ollama_tw.errors import OllamaError
from ollama_tw.library.blobs import BlobStore
from ollama_tw.library.partials import DigestMismatch, PartialBlob, PartSizes
from ollama_tw.net.addresses import Zone, may_redirect, zone_of
from ollama_tw.net.origin import Origin
from ollama_tw.registry.challenge import check_realm
from tests.registry.fakes import (
    CONFIG,
    OLLAMA,
    WEIGHTS,
    FakeRegistry,
    RegistryCase,
    layer,
    sha256,
)

REGISTRY = Origin("https", "registry.ollama.ai", 443)


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.example/token",
        "https://registry.ollama.ai.evil.example/token",
        "https://registry.ollama.ai:8443/token",
        "https://sub.registry.ollama.ai/token",
        "https://registry.ollama.ai@evil.example/token",
        "https://evil.example\\@registry.ollama.ai/token",
        "https://huggingface.co/token",
        "https://ollama.com:8443/token",
        "http://registry.ollama.ai/token",
        "http://registry.ollama.ai:443/token",
        "//registry.ollama.ai/token",
        "registry.ollama.ai",
        "https://[::1",
        "file:///etc/passwd",
        "",
    ],
)
def test_realms_elsewhere(realm: str) -> None:
    """CVE-2025-51471: signed token requests are sent only to the registry."""
    with pytest.raises(OllamaError):
        check_realm(realm, REGISTRY)


def test_the_text_about_a_realm_elsewhere() -> None:
    """CVE-2025-51471: the error names both hosts."""
    with pytest.raises(OllamaError) as raised:
        check_realm("https://evil.example:1/token", REGISTRY)
    assert raised.value.message == (
        'realm host "evil.example:1" does not match original host "registry.ollama.ai"'
    )


@pytest.mark.parametrize(
    ("address", "zone"),
    [
        ("8.8.8.8", Zone.PUBLIC),
        ("2606:4700::1", Zone.PUBLIC),
        ("10.0.0.1", Zone.PRIVATE),
        ("172.16.0.1", Zone.PRIVATE),
        ("192.168.1.1", Zone.PRIVATE),
        ("100.64.0.1", Zone.PRIVATE),
        ("fd00::1", Zone.PRIVATE),
        ("127.0.0.1", Zone.LOOPBACK),
        ("127.9.9.9", Zone.LOOPBACK),
        ("::1", Zone.LOOPBACK),
        ("::ffff:127.0.0.1", Zone.LOOPBACK),
        ("64:ff9b::7f00:1", Zone.LOOPBACK),
        ("2002:7f00:1::", Zone.LOOPBACK),
        ("169.254.169.254", Zone.LINK_LOCAL),
        ("::ffff:169.254.169.254", Zone.LINK_LOCAL),
        ("fe80::1%eth0", Zone.LINK_LOCAL),
        ("fd00:ec2::254", Zone.LINK_LOCAL),
        ("100.100.100.200", Zone.LINK_LOCAL),
        ("168.63.129.16", Zone.LINK_LOCAL),
        ("0.0.0.0", Zone.OTHER),
        ("::", Zone.OTHER),
        ("224.0.0.1", Zone.OTHER),
    ],
)
def test_zones(address: str, zone: Zone) -> None:
    """CVE-2026-5530: every notation of an internal address is recognised."""
    assert zone_of(address) is zone


@given(st.ip_addresses())
def test_no_internal_address_counts_as_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """CVE-2026-5530: a public registry cannot redirect to addresses that are not global."""
    if may_redirect({Zone.PUBLIC}, zone_of(str(address))):
        inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        special = address in ipaddress.ip_network("2002::/16") or address in ipaddress.ip_network(
            "64:ff9b::/96"
        )
        assert special or (inner or address).is_global


@pytest.mark.parametrize(
    ("registry", "target", "allowed"),
    [
        ({Zone.PUBLIC}, Zone.PUBLIC, True),
        ({Zone.PUBLIC}, Zone.PRIVATE, False),
        ({Zone.PUBLIC}, Zone.LOOPBACK, False),
        ({Zone.PUBLIC}, Zone.LINK_LOCAL, False),
        ({Zone.PUBLIC, Zone.LOOPBACK}, Zone.LOOPBACK, False),
        ({Zone.PRIVATE}, Zone.PRIVATE, True),
        ({Zone.PRIVATE}, Zone.LOOPBACK, False),
        ({Zone.PRIVATE}, Zone.LINK_LOCAL, False),
        ({Zone.LOOPBACK}, Zone.LOOPBACK, True),
        ({Zone.LOOPBACK}, Zone.PRIVATE, True),
        ({Zone.LOOPBACK}, Zone.LINK_LOCAL, False),
        ({Zone.OTHER}, Zone.OTHER, False),
        (set(), Zone.PRIVATE, False),
        (set(), Zone.PUBLIC, True),
    ],
)
def test_allowed_redirects_by_zone(registry: set[Zone], target: Zone, allowed: bool) -> None:
    """CVE-2026-5530: redirects to internal addresses only from registries in the same zone."""
    assert may_redirect(registry, target) is allowed


@implementer(IHostnameResolver)
class FixedResolver:
    """Resolver of names to addresses of this machine."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def resolveHostName(
        self,
        receiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv4Address("TCP", self.names.get(hostName, hostName), portNumber))
        receiver.resolutionComplete()
        return None


def _zones(address: str) -> Zone:
    """Treat 127.0.0.1 as the internet and 127.0.0.2 as the internal network."""
    return Zone.PUBLIC if address == "127.0.0.1" else Zone.PRIVATE


class RedirectTests(RegistryCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry.add_model("library/m", "latest", WEIGHTS)
        self.registry.token = "secret-token"
        self.registry.challenge = (
            f'Bearer realm="http://{self.host}/token",service="s",scope="repository:library/m:pull"'
        )
        self.storage = FakeRegistry()
        self.storage.blobs = self.registry.blobs

    def lead_to(self, host: str, code: int = 307) -> None:
        def hook(request: Any, data: bytes) -> bytes:
            request.setResponseCode(code)
            request.setHeader("Location", f"http://{host}/v2/x/blobs/{sha256(data)}?signature=s")
            return b""

        self.registry.blob_hook = hook

    async def refused(self, text: str) -> None:
        pulls = self.new_pulls(
            self.store,
            self.new_network(
                zones=_zones,
                resolver=FixedResolver({"inner.example": "127.0.0.2", "cdn.example": "127.0.0.1"}),
            ),
        )
        with self.assertRaises(OllamaError) as raised:
            await self.pull(pulls=pulls)
        self.assertIn(text, raised.exception.message)
        self.assertNotIn("signature", raised.exception.message)
        self.assertEqual(self.storage.seen, [])
        self.assertEqual(self.finals(), {})

    async def test_credentials_stay_with_the_registry(self) -> None:
        """CVE-2026-5530: tokens and signatures are not sent to the host of the blobs."""
        for code in (301, 302, 303, 307, 308):
            self.lead_to(self.listen(self.storage, "127.0.0.2"), code)
            await self.pull()
            self.store.delete(self.name())
        self.assertGreater(len(self.storage.seen), 10)
        for _, _, headers in self.storage.seen:
            self.assertNotIn("authorization", headers)
        tokens = [headers for _, path, headers in self.registry.seen if path.startswith("/token")]
        self.assertRegex(tokens[0]["authorization"], r"^AAAAC3NzaC1lZDI1NTE5[\w+/=]*:[\w+/=]{88}$")

    async def test_redirects_to_public_hosts_are_followed(self) -> None:
        """CVE-2026-5530: ordinary redirects work under the strictest rule."""
        port = self.listen(self.storage).rpartition(":")[2]
        self.lead_to(f"cdn.example:{port}")
        network = self.new_network(zones=_zones, resolver=FixedResolver({"cdn.example": "127.0.0.1"}))
        await self.pull(pulls=self.new_pulls(self.store, network))
        self.assertIn(WEIGHTS, self.finals().values())

    async def test_redirects_to_internal_hosts_are_rejected(self) -> None:
        """CVE-2026-5530: by address and by a name that resolves to one."""
        port = self.listen(self.storage, "127.0.0.2").rpartition(":")[2]
        for host in ("127.0.0.2", "inner.example"):
            self.lead_to(f"{host}:{port}")
            await self.refused(f"redirect to {host}:{port} (127.0.0.2) is not allowed")

    async def test_redirects_of_manifests_are_checked(self) -> None:
        """CVE-2026-5530: the check applies to every request."""
        inner = self.listen(self.storage, "127.0.0.2")

        def hook(request: Any) -> bytes | None:
            if b"/manifests/" not in request.path:
                return None
            request.setResponseCode(302)
            request.setHeader("Location", f"http://{inner}/v2/library/m/manifests/latest")
            return b""

        self.registry.hook = hook
        await self.refused(f"redirect to {inner} (127.0.0.2) is not allowed")

    async def test_other_redirects(self) -> None:
        """CVE-2026-5530: only HTTP URLs are followed, and a bounded number of times."""
        for location, text in (
            ("file:///etc/passwd", "redirects to an invalid URL"),
            ("http://a:b@127.0.0.2/", "redirects to an invalid URL"),
            ("gopher://127.0.0.2/", "redirects to an invalid URL"),
            ("/token?loop", "maximum redirects exceeded (10) for http://"),
        ):

            def hook(request: Any, location: str = location) -> bytes | None:
                if b"/blobs/" not in request.path and b"loop" not in request.uri:
                    return None
                request.setResponseCode(307)
                request.setHeader("Location", location)
                return b""

            self.registry.hook = hook
            await self.refused(text)

    async def test_a_foreign_realm_gets_no_signature(self) -> None:
        """CVE-2025-51471: checked on the requests that are sent."""
        evil = self.listen(self.storage, "127.0.0.2")
        self.registry.challenge = f'Bearer realm="http://{evil}/token",service="s",scope="x"'
        await self.refused(
            f'pull model manifest: realm host "{evil}" does not match original host "{self.host}"'
        )

    async def test_a_token_that_is_not_accepted(self) -> None:
        """A registry that challenges every request gets two requests."""

        def hook(request: Any) -> bytes | None:
            if b"/token" in request.path:
                return None
            request.setResponseCode(401)
            request.setHeader("WWW-Authenticate", self.registry.challenge)
            return b""

        self.registry.hook = hook
        await self.refused("pull model manifest: unauthorized: access denied")
        self.assertEqual(len(self.registry.seen), 3)


class BodyTests(RegistryCase):
    async def failure(self) -> str:
        with self.assertRaises(OllamaError) as raised:
            await self.pull()
        self.assertEqual(self.files(), {})
        message: str = raised.exception.message
        return message

    async def test_a_compressed_manifest(self) -> None:
        """CVE-2024-12886: nothing is decompressed."""
        self.registry.add_model("library/m", "latest", WEIGHTS)

        def hook(request: Any) -> bytes:
            self.assertEqual(request.getHeader("accept-encoding"), "identity")
            request.setHeader("Content-Encoding", "gzip")
            return zlib.compress(bytes(10_000_000))

        self.registry.hook = hook
        self.assertIn("compressed", await self.failure())

    async def test_an_endless_manifest(self) -> None:
        """CVE-2024-12886: reading stops at a limit."""

        class Endless:
            def __init__(self, request: Any) -> None:
                self.request = request
                self.sent = 0

            def resumeProducing(self) -> None:
                self.request.write(b" " * 1_000_000)
                self.sent += 1_000_000

            def stopProducing(self) -> None:
                pass

        producers = []

        def hook(request: Any) -> int:
            producers.append(Endless(request))
            request.notifyFinish().addErrback(lambda _: None)
            request.registerProducer(producers[0], False)
            return NOT_DONE_YET

        self.registry.hook = hook
        self.assertEqual(
            await self.failure(), "pull model manifest: the registry sent more than 33554432 bytes"
        )
        self.assertLess(producers[0].sent, 45_000_000)

    async def test_an_endless_token(self) -> None:
        """CVE-2024-12886: the same for tokens."""
        self.registry.token = "x" * 300_000
        self.registry.challenge = f'Bearer realm="http://{self.host}/token"'
        self.assertEqual(
            await self.failure(), "pull model manifest: the registry sent more than 262144 bytes"
        )

    async def test_invalid_manifests(self) -> None:
        """CVE-2025-1975, CVE-2024-37032: a manifest is validated before it is used."""
        good, config = layer(OLLAMA + "model", WEIGHTS), layer(CONFIG, b"{}")
        for document in (
            {},
            {"schemaVersion": 2},
            {"schemaVersion": 2, "config": None, "layers": None},
            {"schemaVersion": 2, "config": config, "layers": [{}]},
            {"schemaVersion": 2, "config": {}, "layers": [good]},
            {"schemaVersion": 2, "config": config, "layers": [None]},
            {"schemaVersion": 2, "config": config, "layers": "x"},
            {"schemaVersion": 2, "config": config, "layers": [good] * 70_000},
            *(
                {"schemaVersion": 2, "config": config, "layers": [{**good, "digest": digest}]}
                for digest in (
                    "sha256:../../../../etc/passwd",
                    "sha256:" + "0" * 63,
                    "md5:x",
                    5,
                    "/etc/passwd",
                )
            ),
        ):
            self.registry.manifests["library/m/latest"] = json.dumps(document).encode()
            self.assertTrue((await self.failure()).startswith("pull model manifest: "))

    async def test_a_blob_that_is_a_link(self) -> None:
        """CVE-2025-44779, CVE-2024-37032: links in the store are not followed."""
        outside = self.root / "outside"
        outside.write_bytes(b"untouched")
        self.registry.add_model("library/m", "latest", WEIGHTS)
        path = self.store.blobs.path(sha256(WEIGHTS))
        path.with_name(path.name + "-partial").symlink_to(outside)
        path.with_name(path.name + "-partial-0").symlink_to(outside)
        await self.pull()
        self.assertEqual(outside.read_bytes(), b"untouched")
        self.assertIn(WEIGHTS, self.finals().values())


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.data())
def test_wrong_content_never_gets_a_final_name(
    tmp_path_factory: pytest.TempPathFactory, wanted: bytes, data: st.DataObject
) -> None:
    """A blob has the digest in its name for any data, chunks and order."""
    root = tmp_path_factory.mktemp("store")
    blobs = BlobStore(root)
    blobs.directory.mkdir()
    sent = data.draw(st.one_of(st.just(wanted), st.binary(min_size=len(wanted), max_size=len(wanted))))
    sizes = PartSizes(minimum=data.draw(st.integers(1, 60)), maximum=100, count=4)
    partial = PartialBlob(blobs, sha256(wanted), len(wanted), sizes)
    while unfinished := [part for part in partial.parts if not part.is_complete]:
        part = data.draw(st.sampled_from(unfinished))
        size = data.draw(st.integers(1, part.end - part.position))
        chunks = [sent[part.position : part.position + size]]
        if data.draw(st.booleans()):
            partial.update_hash(part.position, chunks)
        partial.write(part.position, chunks)
        if data.draw(st.booleans()):
            partial.close()
            partial = PartialBlob(blobs, sha256(wanted), len(wanted), sizes)
    try:
        partial.commit(threading.Event())
    except DigestMismatch:
        assert sent != wanted
        assert list(blobs.directory.iterdir()) == []
    else:
        assert [path.read_bytes() for path in blobs.directory.iterdir()] == [wanted]
    finally:
        partial.close()


def test_one_place_builds_the_paths_of_blobs() -> None:
    """CVE-2026-7020, CVE-2024-37032: only one function, which validates them, makes digests paths."""
    package = Path(ollama_tw.__file__).parent
    builders = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if '"blobs"' in (text := path.read_text()) or 'f"sha256-' in text or "'sha256-" in text
    }
    # The others list the directory, or look whether it is there; that of the page is its security policy.
    assert builders == {
        "library/blobs.py",
        "cli/model_files.py",
        "http/ui/files.py",
        "library/maintenance.py",
        "library/unused.py",
        "cli/doctor/storage.py",
        "cli/folder.py",
    }


@given(st.text(max_size=80))
def test_no_other_text_is_a_digest(text: str) -> None:
    """CVE-2024-37032: invalid digests are rejected before they become paths."""
    if re.fullmatch("sha256[:-][0-9a-fA-F]{64}", text, re.ASCII):
        return
    with pytest.raises(OllamaError) as raised:
        BlobStore(Path("/nowhere")).path(text)
    assert (raised.value.status, raised.value.message) == (400, "invalid digest format")


class ForeignFileTests(RegistryCase):
    async def test_other_files_are_kept(self) -> None:
        """CVE-2025-44779: a pull removes only files of pulls."""
        self.registry.add_model("library/m", "latest", WEIGHTS)
        blob = sha256(WEIGHTS).replace(":", "-")
        directory = self.store.blobs.directory
        foreign = [f"{blob}-partial-x", f"{blob}-partial-1.bak", f"{blob}-notes", "readme", "sha256-1234"]
        for name in foreign:
            (directory / name).write_text("mine")
        (directory / f"{blob}-partial-3").write_text("{}")
        await self.pull()
        left = self.files()
        self.assertEqual([left[name] for name in foreign], [b"mine"] * 5)
        self.assertNotIn(f"{blob}-partial-3", left)
