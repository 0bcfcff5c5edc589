"""A Twisted application and a model server in one process, on one reactor.

python embedded.py [port of the model server, 11434] [port of the application, 8080]
"""

import sys

from klein import Klein
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.server import Request, Site

from ollama_tw import ServerService, make_service
from ollama_tw.client.tx import connect


class Application:
    """A web application that uses the models in its process."""

    pages = Klein()

    def __init__(self, models: ServerService) -> None:
        self.models = models

    @pages.route("/")
    def home(self, request: Request) -> str:
        return "Try /haiku/MODEL?about=rain"

    @pages.route("/haiku/<model>")
    async def haiku(self, request: Request, model: str) -> None:
        about = request.args.get(b"about", [b"the sea"])[0].decode("utf-8", "replace")
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        connection = await connect(reactor, f"http://{self.models.addresses[0]}", "/api/generate")
        try:
            await connection.request(
                lambda record: request.write(record["response"].encode()),
                model=model,
                prompt=f"Write a haiku about {about}.",
            )
        finally:
            connection.close()


def main(models_port: str = "11434", port: str = "8080") -> None:
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)])
    application = MultiService()
    endpoint = TCP4ServerEndpoint(reactor, int(models_port), interface="127.0.0.1")
    models = make_service(reactor, {"OLLAMA_KEEP_ALIVE": "1h"}, [endpoint])
    models.setServiceParent(application)
    site = Site(Application(models).pages.resource())
    endpoint = TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1")
    StreamServerEndpointService(endpoint, site).setServiceParent(application)

    application.privilegedStartService()
    application.startService()
    reactor.addSystemEventTrigger("before", "shutdown", application.stopService)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
