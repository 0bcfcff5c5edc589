"""Backend whose models run on a Ray cluster, as applications of Ray Serve."""

import os

from twisted.plugin import IPlugin
from zope.interface import implementer

from ollama_tw.interfaces import (
    IBackend,
    IRunner,
    IVocabulary,
    IVocabularyReader,
    LoadError,
    LoadPlan,
    Probe,
    Progress,
)


@implementer(IPlugin, IBackend)
class RayBackend:
    """Runs model files on the cluster at RAY_ADDRESS. It is used only if OLLAMA_LLM_LIBRARY is ``ray``."""

    name = "ray"
    version = "1.0.0"
    priority = -500

    def probe(self) -> Probe:
        """Return the nodes of the cluster."""
        address = os.environ.get("RAY_ADDRESS", "")
        if not address:
            return Probe(reason="RAY_ADDRESS is not set: it is the address of a Ray cluster, or auto")
        try:
            from ollama_tw_ray import cluster
        except ImportError as error:
            return Probe(reason=f'Ray is not installed, pip install "ray[serve]" does it: {error}')
        try:
            cluster.connect(address)
        except ConnectionError as error:
            return Probe(reason=f"there is no Ray cluster at {address}: {error}")
        return Probe(cluster.devices())

    def load(self, plan: LoadPlan, progress: Progress) -> IRunner:
        """Start the model on the cluster. Raises LoadError."""
        from ollama_tw_ray import cluster
        from ollama_tw_ray.runner import RayRunner
        from ollama_tw_ray.settings import settings

        given = settings()
        vocabulary = _vocabulary(plan.model_path, given.backend)
        return RayRunner(plan, cluster.run(plan, given, progress), vocabulary)


def _vocabulary(path: str, backend: str) -> IVocabulary | None:
    """Return the vocabulary of the model file, read by this machine; None if it cannot do that."""
    from ollama_tw.runner.backend import in_children
    from ollama_tw_ray.replica import local_backend

    try:
        reader = in_children(local_backend(backend or "cpu"))
    except LoadError:
        return None
    if not IVocabularyReader.providedBy(reader):
        return None
    vocabularies: IVocabularyReader = IVocabularyReader(reader)
    return IVocabulary(vocabularies.read_vocabulary(path))
