"""Generate and chat with a real library and a fake backend: the order of checks, and the replies."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from ollama_tw.config.settings import Settings
from ollama_tw.engine.scheduler import Scheduler
from ollama_tw.errors import Cancelled, OllamaError
from ollama_tw.golang import json as gojson
from ollama_tw.inference.catalogue import Catalogue
from ollama_tw.inference.service import Completions
from ollama_tw.library.create import create
from ollama_tw.library.store import Store
from ollama_tw.testing.fake import FakeBackend, words
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.models import CreateRequest
from ollama_tw.wire.native import ChatRequest, GenerateRequest
from tests.engine.harness import SECOND, FakeReactor, StillPool, begin, use_still_pools
from tests.helpers.gguf_files import METADATA, write_gguf


class DiskPool:
    """Runs work at once, on the calling thread."""

    def run(self, work: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return execute(work, *args)


class ServiceCase(SynchronousTestCase):
    def setUp(self) -> None:
        use_still_pools(self)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.store = Store(Path(folder.name) / "models", prune=False)
        self.store.open()
        self._install(
            "m", write_gguf(Path(folder.name) / "m.gguf"), system="Be brief.", parameters={"top_k": 7}
        )
        pooled = METADATA | {"llama.pooling_type": 1}
        self._install("embedder", write_gguf(Path(folder.name) / "e.gguf", metadata=pooled))
        self.reactor = FakeReactor()
        self.backend = FakeBackend(words("Hello there you"))
        self.scheduler = Scheduler(
            self.reactor,  # type: ignore[arg-type]
            self.backend,
            keep_alive=300 * SECOND,
            max_loaded=1,
            max_queue=4,
        )
        settings = Settings.read({"HOME": folder.name, "OLLAMA_NUM_PARALLEL": "2"}, self.fail)
        catalogue = Catalogue(self.store, DiskPool())  # type: ignore[arg-type]
        nowhere: Any = None
        self.completions = Completions(catalogue, self.scheduler, settings, nowhere)
        self.records: list[Any] = []

    def _install(self, name: str, path: Path, **fields: Any) -> None:
        digest, _, _ = self.store.blobs.put(path.read_bytes())
        body = {
            "model": name,
            "files": {"m.gguf": digest},
            "template": "{{ if .System }}[{{ .System }}]{{ end }}{{ .Prompt }}:",
        }
        list(create(self.store, msgspec.convert(body | fields, type=CreateRequest)))

    def work(self) -> None:
        """Run the work of all pools."""
        while busy := [pool for pool in StillPool.all if pool.work]:
            busy[0].step()

    def start(self, chat: bool = False, stream: bool = False, **fields: Any) -> Deferred[Any]:
        self.cancel = RequestContext()
        emit = self.records.append if stream else None
        if chat:
            request = msgspec.convert(fields, type=ChatRequest)
            return begin(self.completions.chat(request, emit, self.cancel))
        return begin(
            self.completions.generate(msgspec.convert(fields, type=GenerateRequest), emit, self.cancel)
        )

    def ask(self, **fields: Any) -> dict[str, Any]:
        """Return the only record of a reply, without its time."""
        result = self.start(**fields)
        self.work()
        return self._plain(self.successResultOf(result))

    @staticmethod
    def _plain(record: Any) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(gojson.encode(record))
        assert plain.pop("created_at").endswith("Z")
        return plain

    def refused(self, **fields: Any) -> tuple[int, str]:
        result = self.start(**fields)
        self.work()
        error = self.failureResultOf(result, OllamaError).value
        return (error.status, error.message)

    @property
    def loads(self) -> int:
        return len(self.backend.plans)


class CheckTests(ServiceCase):
    """Requests with at least two errors, of which the first in order is reported."""

    def test_top_logprobs_come_before_the_model(self) -> None:
        text = "top_logprobs must be between 0 and 20"
        for chat in (False, True):
            for number in (-1, 21):
                self.assertEqual(self.refused(chat=chat, model="none", top_logprobs=number), (400, text))

    def test_the_models_name(self) -> None:
        self.assertEqual(self.refused(model=""), (404, "model '' not found"))
        self.assertEqual(self.refused(chat=True, model=""), (400, "model is required"))
        for chat in (False, True):
            self.assertEqual(self.refused(chat=chat, model="a/b/c/d/e"), (400, "invalid model name"))
            self.assertEqual(self.refused(chat=chat, model="None:7b"), (404, "model 'None:7b' not found"))

    def test_an_unload_asks_for_nothing_more(self) -> None:
        self.assertEqual(
            self.ask(model="embedder", keep_alive=0, raw=True, system="s", options={"top_k": "x"}),
            {"model": "embedder", "response": "", "done": True, "done_reason": "unload"},
        )
        self.assertEqual(
            self.ask(chat=True, model="embedder", keep_alive="0s", options={"top_k": "x"}),
            {
                "model": "embedder",
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "unload",
            },
        )
        self.assertEqual(self.loads, 0)

    def test_raw_comes_before_the_capability(self) -> None:
        text = "raw mode does not support template, system, or context"
        for field in ({"system": "s"}, {"template": "t"}, {"context": [1]}):
            self.assertEqual(self.refused(model="embedder", prompt="p", raw=True, **field), (400, text))

    def test_the_capability_comes_before_the_options(self) -> None:
        wrong = {"options": {"top_k": "x"}}
        self.assertEqual(
            self.refused(model="embedder", prompt="p", **wrong),
            (400, '"embedder" does not support generate'),
        )
        self.assertEqual(
            self.refused(chat=True, model="embedder", **wrong), (400, '"embedder" does not support chat')
        )

    def test_the_options_come_before_the_load(self) -> None:
        for chat in (False, True):
            self.assertEqual(
                self.refused(chat=chat, model="m", options={"num_ctx": "many"}),
                (400, 'option "num_ctx" must be of type integer'),
            )
        self.assertEqual(self.loads, 0)

    def test_a_keep_alive_that_is_none(self) -> None:
        self.assertEqual(
            self.refused(model="m", keep_alive="10"), (400, 'time: missing unit in duration "10"')
        )
        self.assertEqual(self.refused(model="m", keep_alive=True), (400, "Unsupported type: 'bool'"))


class LoadTests(ServiceCase):
    def test_an_empty_prompt_loads(self) -> None:
        self.assertEqual(
            self.ask(model="M", stream=True),
            {"model": "M", "response": "", "done": True, "done_reason": "load"},
        )
        self.assertEqual(self.records, [])
        self.assertEqual(self.loads, 1)
        self.assertEqual(self.backend.runners[0].jobs, [])

    def test_no_messages_load(self) -> None:
        self.assertEqual(
            self.ask(chat=True, model="m:latest"),
            {
                "model": "m:latest",
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "load",
            },
        )

    def test_an_unload_lets_the_model_go(self) -> None:
        self.ask(model="m")
        self.ask(model="m", keep_alive=0)
        self.assertTrue(self.backend.runners[0].closed)

    def test_a_keep_alive_of_zero_with_a_prompt_runs_it_first(self) -> None:
        reply = self.ask(model="m", prompt="p", keep_alive=0)
        self.assertEqual((reply["response"], reply["done_reason"]), ("Hello there you", "stop"))
        self.assertTrue(self.backend.runners[0].closed)

    def test_what_the_backend_is_asked_for(self) -> None:
        self.ask(model="m", options={"num_ctx": 100, "num_thread": 3, "num_batch": 64, "use_mmap": False})
        plan = self.backend.plans[0]
        self.assertEqual(
            (plan.slots, plan.context_length, plan.threads, plan.batch, plan.use_mmap), (2, 100, 3, 64, False)
        )

    def test_the_draft_model_is_loaded_with_the_model(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = write_gguf(Path(folder) / "m.gguf")
            small = write_gguf(Path(folder) / "d.gguf", metadata=METADATA | {"general.basename": "small"})
            draft, _, _ = self.store.blobs.put(small.read_bytes())
            self._install("drafted", path, draft_files={"d.gguf": draft})
        self.ask(model="drafted")
        self.assertEqual(self.backend.plans[0].draft_path, str(self.store.blobs.path(draft)))
        self.ask(model="m")
        self.assertEqual(self.backend.plans[1].draft_path, "")

    def test_a_load_that_fails(self) -> None:
        self.backend.error = "unable to load model: it is broken"
        self.assertEqual(self.refused(model="m"), (500, "unable to load model: it is broken"))


class RunTests(ServiceCase):
    def test_one_record(self) -> None:
        reply = self.ask(model="m", prompt="Why?")
        for figure in ("total_duration", "load_duration"):
            self.assertGreater(reply.pop(figure), 0)
        context = reply.pop("context")
        self.assertEqual("".join(map(chr, context)), "[Be brief.]Why?:Hello there you")
        self.assertEqual(
            reply,
            {
                "model": "m",
                "response": "Hello there you",
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": 16,
                "prompt_eval_duration": 16_000_000,
                "eval_count": 3,
                "eval_duration": 3_000_000,
            },
        )

    def test_a_stream(self) -> None:
        result = self.start(chat=True, stream=True, model="m", messages=[{"role": "user", "content": "Hi"}])
        self.work()
        self.assertIsNone(self.successResultOf(result))
        records = [self._plain(record) for record in self.records]
        self.assertEqual(
            [(record["message"]["content"], record["done"]) for record in records],
            [("Hello", False), (" there", False), (" you", False), ("", True)],
        )
        self.assertEqual(records[-1]["done_reason"], "stop")
        self.assertEqual(records[-1]["eval_count"], 3)
        self.assertNotIn("eval_count", records[0])

    def test_cached_tokens_are_told_and_still_count(self) -> None:
        self.ask(model="m", prompt="Why?")
        reply = self.ask(model="m", prompt="Why not?")
        self.assertEqual((reply["prompt_eval_count"], reply["prompt_cached_count"]), (20, 14))

    def test_raw_is_taken_as_it_is_and_gives_no_context(self) -> None:
        reply = self.ask(model="m", prompt="Why?", raw=True)
        self.assertEqual(self.backend.runners[0].jobs[0].prompt, "Why?")
        self.assertNotIn("context", reply)

    def test_options_reach_the_run(self) -> None:
        options = {"temperature": 0.5, "seed": 9, "stop": [" you"], "num_predict": 2}
        reply = self.ask(model="m", prompt="p", options=options)
        job = self.backend.runners[0].jobs[0]
        self.assertEqual((job.sampling.temperature, job.sampling.seed, job.sampling.top_k), (0.5, 9, 7))
        self.assertEqual((job.stop, job.max_tokens), ((" you",), 2))
        self.assertEqual((reply["response"], reply["done_reason"]), ("Hello there", "length"))

    def test_a_request_with_a_seed_has_drafts_only_if_it_asks_for_them(self) -> None:
        for options in ({}, {"seed": -1}, {"seed": 9}, {"seed": 9, "draft_num_predict": 4}):
            self.ask(model="m", prompt="p", options=options)
        jobs = self.backend.runners[0].jobs
        self.assertEqual([job.drafts for job in jobs], [None, None, 0, 4])

    def test_one_who_goes_while_it_loads(self) -> None:
        result = self.start(model="m", prompt="p")
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.work()
        self.assertEqual(self.backend.runners, [])
        self.assertEqual(self.scheduler.waiting, 0)

    def test_one_who_goes_while_it_runs(self) -> None:
        result = self.start(model="m", prompt="p")
        StillPool.all[0].step()
        self.cancel.set()
        self.work()
        self.failureResultOf(result, Cancelled)
        self.assertTrue(self.scheduler.loaded()[0].idle)
