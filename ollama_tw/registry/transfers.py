"""Shared parts of pulls and pushes: network, key, model store and disk pool."""

from dataclasses import dataclass, field

from ollama_tw.concurrency.threads import InThread
from ollama_tw.identity.signer import LoadSigner
from ollama_tw.library.names import Name
from ollama_tw.library.partials import PartSizes
from ollama_tw.library.store import Store
from ollama_tw.net.network import Network
from ollama_tw.registry.client import RegistryClient


@dataclass(frozen=True)
class TransferContext:
    """Collaborators of :class:`Pulls` and :class:`Pushes`. ``in_disk`` calls functions on the disk pool."""

    network: Network
    load_signer: LoadSigner
    store: Store
    in_disk: InThread
    sizes: PartSizes = field(default_factory=PartSizes)

    def client(self, name: Name, insecure: bool) -> RegistryClient:
        """Return a client for one transfer of the model ``name``."""
        return RegistryClient(self.network, self.load_signer, name, insecure)
