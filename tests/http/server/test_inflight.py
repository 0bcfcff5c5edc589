from twisted.trial.unittest import SynchronousTestCase

from ollama_tw.http.server.inflight import Inflight


class InflightTests(SynchronousTestCase):
    def test_idle_fires_when_the_last_request_ends(self) -> None:
        inflight = Inflight()
        self.successResultOf(inflight.idle())
        inflight.begin()
        inflight.begin()
        first, second, given_up = inflight.idle(), inflight.idle(), inflight.idle()
        given_up.cancel()
        self.failureResultOf(given_up)
        inflight.end()
        self.assertNoResult(first)
        self.assertEqual(inflight.count, 1)
        inflight.end()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(inflight.count, 0)
