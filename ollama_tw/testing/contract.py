"""Contract suite for all backends, built-in and third-party (requires pytest).

Subclass :class:`BackendContract` in a test module, under a name that begins with ``Test``, and
implement ``make_runner``.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import psutil
import pytest
from zope.interface.verify import verifyObject

from ollama_tw.interfaces import (
    IMAGE_MARKER,
    DoneReason,
    InvalidImages,
    IReranker,
    IRunner,
    Job,
    Piece,
    PromptTooLong,
    RunnerError,
    Sampling,
    Usage,
)

_TIMEOUT = 60.0
"""Seconds after which a job that does not end fails the test."""

GREEDY = Sampling(temperature=0)


class Consumer(threading.Thread):
    """A thread that consumes the pieces of one job."""

    def __init__(self, run: Iterator[Piece]) -> None:
        super().__init__(daemon=True)
        self.pieces: list[Piece] = []
        self.error: Exception | None = None
        self._run = run
        self.start()

    def run(self) -> None:
        """Consume the pieces."""
        try:
            self.pieces.extend(self._run)
        except Exception as error:
            self.error = error

    def ended(self) -> "Consumer":
        """Wait for the end of the job."""
        self.join(_TIMEOUT)
        assert not self.is_alive(), f"the job did not end within {_TIMEOUT:g} s"
        return self

    @property
    def text(self) -> str:
        """Joined texts of the pieces so far."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def reason(self) -> DoneReason | None:
        """Reason of the end."""
        return self.pieces[-1].done if self.pieces else None

    @property
    def usage(self) -> Usage:
        """Usage in the last piece."""
        usage = self.pieces[-1].usage
        assert usage is not None
        return usage


class BackendContract(ABC):
    """The contract suite. Override the texts and flags that do not suit the model."""

    prompt = "1, 2, 3, 4, 5, 6,"
    """Prompt of 14 to 18 tokens, which the model continues for at least 100 tokens."""
    texts: Sequence[str] = (
        "hello",
        "Grüße aus Köln",
        "日本語のテキスト",
        "🙂 and 👩‍👩‍👧",
        " spaces  and\nlines\t",
    )
    """Texts that tokenization and detokenization reproduce."""
    embeds = True
    """True if the model supports embeddings."""
    ranks = False
    """True if the model ranks documents."""
    sees = False
    """True if the model supports images."""
    grammars = True
    """True if the backend supports grammars."""
    logprobs = True
    """True if the backend supports log probabilities."""
    control = ""
    """Text of a control token that does not end a generation, for a backend with ``logit_bias``; "": none."""

    @abstractmethod
    def make_runner(self, slots: int) -> IRunner:
        """Return a runner with ``slots`` slots and a context of 512 tokens for each."""

    @pytest.fixture
    def runner(self) -> Iterator[IRunner]:
        with closing(self.make_runner(2)) as runner:
            yield runner

    def test_provides_the_interface(self, runner: IRunner) -> None:
        assert verifyObject(IRunner, runner)
        assert runner.slots == 2
        assert 0 < runner.context_length <= 512
        assert 0 <= runner.size_gpu <= runner.size
        assert runner.size > 0
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in runner.metadata.items())

    def test_the_last_piece_alone_is_done(self, runner: IRunner) -> None:
        pieces = list(runner.generate(Job(self.prompt, GREEDY, max_tokens=12)))
        assert "".join(piece.text for piece in pieces)
        assert all(piece.done is None and piece.usage is None for piece in pieces[:-1])
        assert pieces[-1].done is DoneReason.LENGTH
        usage = pieces[-1].usage
        assert usage is not None
        assert usage.output_tokens == 12
        assert usage.prompt_tokens == len(runner.tokenize(self.prompt))
        assert 0 <= usage.cached_tokens < usage.prompt_tokens
        assert usage.prompt_duration >= 0
        assert usage.output_duration >= 0

    def test_max_tokens_zero_generates_nothing(self, runner: IRunner) -> None:
        pieces = list(runner.generate(Job(self.prompt, GREEDY, max_tokens=0)))
        assert "".join(piece.text for piece in pieces) == ""
        assert pieces[-1].done is DoneReason.LENGTH
        assert pieces[-1].usage is not None
        assert pieces[-1].usage.output_tokens == 0

    def test_a_prompt_of_tokens_is_taken_as_it_is(self, runner: IRunner) -> None:
        tokens = tuple(runner.tokenize(self.prompt))
        assert self._text(runner, Job(tokens, GREEDY, max_tokens=12)) == self._text(
            runner, Job(self.prompt, GREEDY, max_tokens=12)
        )

    def test_a_stop_string_and_what_follows_are_cut(self, runner: IRunner) -> None:
        whole = self._text(runner, Job(self.prompt, GREEDY, max_tokens=24))
        stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
        pieces = list(runner.generate(Job(self.prompt, GREEDY, stop=("\x00never", stop), max_tokens=24)))
        assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
        assert pieces[-1].done is DoneReason.STOP
        assert pieces[-1].stop_string in (stop, "")
        assert not any(piece.stop_string for piece in pieces[:-1])

    def test_a_text_that_ends_the_turn_is_no_stop_string(self, runner: IRunner) -> None:
        whole = self._text(runner, Job(self.prompt, GREEDY, max_tokens=24))
        end = whole[len(whole) // 2 : len(whole) // 2 + 3]
        pieces = list(runner.generate(Job(self.prompt, GREEDY, ends=("\x00never", end), max_tokens=24)))
        assert "".join(piece.text for piece in pieces) == whole[: whole.index(end)]
        assert pieces[-1].done is DoneReason.STOP
        assert not any(piece.stop_string for piece in pieces)

    def test_what_might_have_become_a_stop_string_is_not_lost(self, runner: IRunner) -> None:
        whole = self._text(runner, Job(self.prompt, GREEDY, max_tokens=24))
        almost = whole[-1] + "\x00"
        assert self._text(runner, Job(self.prompt, GREEDY, stop=(almost,), max_tokens=24)) == whole

    def test_the_context_is_a_limit(self, runner: IRunner) -> None:
        taken = Consumer(runner.generate(Job(self.prompt * 28, GREEDY))).ended()
        assert taken.reason in (DoneReason.LENGTH, DoneReason.STOP)
        assert taken.usage.prompt_tokens + taken.usage.output_tokens <= runner.context_length

    def test_a_prompt_that_does_not_fit(self, runner: IRunner) -> None:
        tokens = runner.tokenize(self.prompt * 200)
        with pytest.raises(PromptTooLong) as caught:
            next(runner.generate(Job(self.prompt * 200, GREEDY)))
        assert caught.value.prompt_tokens == len(tokens)
        assert caught.value.context_length == runner.context_length
        # It occupies no slot.
        assert self._text(runner, Job(self.prompt, GREEDY, max_tokens=4))

    def test_cancelled_before_it_begins(self, runner: IRunner) -> None:
        cancel = threading.Event()
        cancel.set()
        pieces = list(runner.generate(Job(self.prompt, GREEDY, cancel=cancel)))
        assert pieces[-1].done is DoneReason.CANCELLED
        assert pieces[-1].usage is not None
        assert all(piece.usage is None for piece in pieces[:-1])

    def test_cancelled_while_it_runs(self, runner: IRunner) -> None:
        cancel = threading.Event()
        run = runner.generate(Job(self.prompt, GREEDY, cancel=cancel))
        next(run)
        cancel.set()
        rest = Consumer(run).ended()
        assert rest.reason is DoneReason.CANCELLED
        assert rest.usage.output_tokens < runner.context_length // 2

    def test_cancelled_while_it_waits_for_a_slot(self, runner: IRunner) -> None:
        held = [runner.generate(Job(self.prompt, GREEDY)) for _ in range(2)]
        for run in held:
            next(run)
        cancel = threading.Event()
        waiting = Consumer(runner.generate(Job(self.prompt, GREEDY, cancel=cancel)))
        cancel.set()
        waiting.ended()
        assert waiting.reason is DoneReason.CANCELLED
        assert waiting.usage.output_tokens == 0
        for run in held:
            self._close(run)

    def test_closing_the_iterator_frees_the_slot(self, runner: IRunner) -> None:
        for _ in range(5):
            run = runner.generate(Job(self.prompt, GREEDY))
            next(run)
            self._close(run)
        assert self._text(runner, Job(self.prompt, GREEDY, max_tokens=4))

    def test_all_slots_at_once_and_one_more_waits(self, runner: IRunner) -> None:
        expected = self._text(runner, Job(self.prompt, GREEDY, max_tokens=8))
        held = [runner.generate(Job(self.prompt, GREEDY)) for _ in range(2)]
        # Both yield pieces in turns: neither waits for the end of the other.
        for _ in range(3):
            for run in held:
                next(run)
        third = Consumer(runner.generate(Job(self.prompt, GREEDY, max_tokens=8)))
        for run in held:
            next(run)
        assert not third.pieces
        self._close(held.pop())
        assert third.ended().text == expected
        self._close(held.pop())

    def test_many_more_runs_than_slots(self, runner: IRunner) -> None:
        expected = self._text(runner, Job(self.prompt, GREEDY, max_tokens=8))
        runs = [Consumer(runner.generate(Job(self.prompt, GREEDY, max_tokens=8))) for _ in range(8)]
        assert [run.ended().text for run in runs] == [expected] * 8

    def test_a_slow_consumer_holds_back_itself_only(self, runner: IRunner) -> None:
        slow = runner.generate(Job(self.prompt, GREEDY))
        next(slow)
        assert (
            Consumer(runner.generate(Job(self.prompt, GREEDY, max_tokens=60))).ended().usage.output_tokens
            == 60
        )
        assert next(slow).done is None
        self._close(slow)

    def test_a_known_beginning_changes_nothing_in_the_output(self) -> None:
        longer = self.prompt + " 7, 8, 9,"
        with closing(self.make_runner(1)) as runner:
            alone = self._text(runner, Job(longer, GREEDY, max_tokens=12))
        with closing(self.make_runner(1)) as runner:
            self._text(runner, Job(self.prompt, GREEDY, max_tokens=12))
            again = Consumer(runner.generate(Job(longer, GREEDY, max_tokens=12))).ended()
        assert again.text == alone

    def test_a_grammar(self, runner: IRunner) -> None:
        if not self.grammars:
            pytest.skip("this backend does not support grammars")
        taken = Consumer(runner.generate(Job(self.prompt, GREEDY, grammar='root ::= "perhaps"'))).ended()
        assert taken.text == "perhaps"
        assert taken.reason is DoneReason.STOP
        with pytest.raises(RunnerError):
            list(runner.generate(Job(self.prompt, GREEDY, grammar="root ::= (")))

    def test_log_probabilities(self, runner: IRunner) -> None:
        if not self.logprobs:
            pytest.skip("this backend does not support log probabilities")
        for alternatives in (0, 3):
            job = Job(self.prompt, GREEDY, max_tokens=6, logprobs=alternatives)
            pieces = list(runner.generate(job))
            logprobs = [one for piece in pieces for one in piece.logprobs]
            assert b"".join(one.chosen.data for one in logprobs).decode() == "".join(
                one.text for one in pieces
            )
            assert [len(one.top) for one in logprobs] == [alternatives] * 6
            for one in logprobs:
                likeliest = [choice.logprob for choice in one.top]
                assert likeliest == sorted(likeliest, reverse=True)
                # At temperature 0 the most likely token is chosen.
                assert all(choice.logprob <= one.chosen.logprob <= 0 for choice in one.top)
        assert not any(piece.logprobs for piece in runner.generate(Job(self.prompt, GREEDY, max_tokens=2)))

    def test_a_control_token_is_text_if_it_is_preserved(self, runner: IRunner) -> None:
        if not self.control:
            pytest.skip("no control token to generate")
        (token,) = runner.tokenize(self.control, add_special=False)
        job = Job(self.prompt, GREEDY, max_tokens=3, logit_bias=((token, 1000.0),))
        assert self._text(runner, job) == ""
        shown = replace(job, preserved=("no token", self.control))
        assert self._text(runner, shown) == 3 * self.control
        # A stop string may consist of one, or end in one.
        pieces = list(runner.generate(replace(shown, stop=(2 * self.control,))))
        assert "".join(piece.text for piece in pieces) == ""
        assert pieces[-1].done is DoneReason.STOP
        if self.logprobs:
            pieces = list(runner.generate(replace(shown, logprobs=0)))
            data = [one.chosen.data.decode() for piece in pieces for one in piece.logprobs]
            assert data == 3 * [self.control]

    def test_images_are_refused_by_a_model_that_sees_none(self, runner: IRunner) -> None:
        if self.sees:
            pytest.skip("this model supports images")
        with pytest.raises(InvalidImages):
            list(runner.generate(Job(f"{IMAGE_MARKER}{self.prompt}", GREEDY, images=(b"GIF89a",))))

    def test_text_survives_tokenising(self, runner: IRunner) -> None:
        for text in self.texts:
            tokens = runner.tokenize(text, add_special=False)
            assert all(isinstance(token, int) for token in tokens)
            assert runner.detokenize(tokens) == text
        assert list(runner.tokenize("", add_special=False)) == []
        assert runner.detokenize([]) == ""

    def test_a_token_that_is_not_in_the_vocabulary(self, runner: IRunner) -> None:
        for token in (-1, 2**31, 2**70):
            with pytest.raises(RunnerError):
                runner.detokenize([token])

    def test_a_prompt_with_a_token_that_is_not_in_the_vocabulary(self, runner: IRunner) -> None:
        for token in (-1, 2**31 - 1, 2**40):
            with pytest.raises(RunnerError):
                list(runner.generate(Job((*runner.tokenize(self.prompt), token), GREEDY, max_tokens=4)))
        assert self._text(runner, Job(self.prompt, GREEDY, max_tokens=4))

    def test_embeddings(self, runner: IRunner) -> None:
        if not self.embeds:
            pytest.skip("this model does not support embeddings")
        inputs = ["the first", "another one, and longer", "third", "the first"]
        never = threading.Event()
        together = runner.embed(inputs, never)
        assert [one.tokens for one in together] == [len(runner.tokenize(text)) for text in inputs]
        for text, one in zip(inputs, together, strict=True):
            (alone,) = runner.embed([text], never)
            scale = max(abs(number) for number in alone.vector)
            assert one.vector == pytest.approx(alone.vector, abs=1e-5 * scale)
        assert together[0].vector != together[1].vector
        assert list(runner.embed([], never)) == []
        with pytest.raises(PromptTooLong):
            runner.embed(["fits", self.prompt * 2000], never)

    def test_rankings(self, runner: IRunner) -> None:
        if not IReranker.providedBy(runner):
            pytest.skip("this backend does not support reranking")
        reranker: Any = runner
        never = threading.Event()
        if not self.ranks:
            with pytest.raises(RunnerError):
                reranker.rank("the first", ["the first"], never)
            return
        documents = ["the first", "another one, and longer", "", "the first"]
        together = reranker.rank("the first", documents, never)
        for document, one in zip(documents, together, strict=True):
            (alone,) = reranker.rank("the first", [document], never)
            assert one.score == pytest.approx(alone.score, rel=1e-2)
            assert one.tokens == alone.tokens
        assert list(reranker.rank("the first", [], never)) == []
        with pytest.raises(PromptTooLong) as caught:
            reranker.rank("the first", ["fits", self.prompt * 2000], never)
        assert caught.value.index == 1

    def test_closing_ends_what_runs_and_what_waits(self) -> None:
        runner = self.make_runner(1)
        run = runner.generate(Job(self.prompt, GREEDY))
        next(run)
        waiting = Consumer(runner.generate(Job(self.prompt, GREEDY)))
        runner.close()
        for one in (Consumer(run), waiting):
            one.ended()
            assert one.reason is DoneReason.CANCELLED or isinstance(one.error, RunnerError)

    def test_a_closed_runner_refuses_new_runs(self) -> None:
        runner = self.make_runner(1)
        runner.close()
        late = Consumer(runner.generate(Job(self.prompt, GREEDY, max_tokens=4))).ended()
        assert late.reason is DoneReason.CANCELLED or isinstance(late.error, RunnerError)

    def test_no_thread_is_left(self) -> None:
        before = set(threading.enumerate())
        runner = self.make_runner(2)
        self._text(runner, Job(self.prompt, GREEDY, max_tokens=4))
        if self.embeds:
            runner.embed(["one"], threading.Event())
        abandoned = runner.generate(Job(self.prompt, GREEDY))
        next(abandoned)
        runner.close()
        assert set(threading.enumerate()) <= before

    @pytest.mark.skipif(
        not hasattr(psutil.Process, "num_fds"), reason="psutil cannot count descriptors on this system"
    )
    def test_no_descriptor_is_left(self) -> None:
        def use() -> int:
            runner = self.make_runner(1)
            self._text(runner, Job(self.prompt, GREEDY, max_tokens=2))
            run = runner.generate(Job(self.prompt, GREEDY))
            next(run)
            runner.close()
            self._close(run)
            return int(psutil.Process().num_fds())

        # A descriptor that is opened once and kept, such as a device's, is not a leak.
        first = use()
        assert use() <= first

    @staticmethod
    def _text(runner: IRunner, job: Job) -> str:
        return "".join(piece.text for piece in runner.generate(job))

    @staticmethod
    def _close(run: Any) -> None:
        run.close()
