"""A Ray cluster of three nodes on this machine, for the backend ``ray``."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ollama_tw import plugins  # noqa: F401 - before the path is extended: the plugins of other tests stay the same
from tests.helpers import ROOT
from tests.helpers.server import PLUGINS

PACKAGE = ROOT / "contrib" / "ollama-tw-ray"
sys.path.append(str(PACKAGE))

NODES = 3
_STARTS = 3
VARIABLES = {
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, PACKAGE, PLUGINS))),
    # Numbers of jobs are reported often, so that replicas come and go within seconds.
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_WAIT_POLICY": "passive",
}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the nodes and return the address of the cluster. Each node has a processor and no GPU."""
    pytest.importorskip("ray", reason='Ray is not installed: pip install "ray[serve]"')
    import ray
    from ray import serve

    before = dict(os.environ)
    os.environ.update(VARIABLES)
    nodes = None
    try:
        nodes = start_nodes()
        os.environ["RAY_ADDRESS"] = nodes.address
        os.environ["OLLAMA_TW_RAY_STORE"] = str(tmp_path_factory.mktemp("store"))
        yield nodes.address
        if ray.is_initialized():
            serve.shutdown()
            ray.shutdown()
    finally:
        if nodes is not None:
            nodes.shutdown()
        os.environ.clear()
        os.environ.update(before)


def start_nodes() -> Any:
    """Return the running nodes. A busy machine may exceed Ray's limit of 30 s: the start is repeated."""
    from ray.cluster_utils import Cluster

    arguments: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}
    for attempt in range(_STARTS):
        nodes = Cluster()
        try:
            nodes.add_node(**arguments, include_dashboard=False)
            for _ in range(NODES - 1):
                nodes.add_node(**arguments)
            nodes.wait_for_nodes()
            return nodes
        except Exception:
            nodes.shutdown()
            if attempt + 1 == _STARTS:
                raise
    raise AssertionError("unreachable")
