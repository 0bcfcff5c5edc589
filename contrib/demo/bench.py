"""Implementation of ``make bench``: this server under the load of ``benchmarks/serve.py``.

    python contrib/demo/bench.py FILE.gguf [ARGUMENT of benchmarks/serve.py …]

Add other servers with further arguments: ``--url llama-server:openai=http://127.0.0.1:8080``.
"""

import socket
import subprocess
import sys
from pathlib import Path

from demo import CACHE, MODEL, server_environ
from local_server import Client, Failed, LocalServer


def main() -> int:
    """Run the benchmark; return the exit status."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = "{}:{}".format(*probe.getsockname())
    environ = server_environ()
    environ["OLLAMA_HOST"] = address
    environ.setdefault("OLLAMA_NUM_PARALLEL", "16")
    server = LocalServer(environ, f"http://{address}", CACHE / "bench.log")
    try:
        server.wait_until_ready()
        for _step in Client(f"http://{address}").install(MODEL, Path(sys.argv[1])):
            pass
        target = ["--model", MODEL, "--url", f"ollama=http://{address},pid={server.pid}"]
        return subprocess.run([sys.executable, "benchmarks/serve.py", *target, *sys.argv[2:]]).returncode
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        server.stop()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
