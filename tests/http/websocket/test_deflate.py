"""permessage-deflate (RFC 7692) with zlib as the client, and its memory."""

import gc
import random
import tracemalloc
import zlib
from typing import Any

from tests.http.fakes import tick
from tests.http.websocket.frames import CLOSE, PING, PONG, TEXT, Received, frame, text
from tests.http.websocket.test_connection import LIMIT, Client, WebSocketCase

RECORD = b'{"n":1,"pad":"\\u003c' + b"x" * 300 + b'","done":true}'
BODY = b'{"count":1,"size":300}'


def deflated(message: bytes, *, bits: int = 15, level: int = 6) -> bytes:
    """Compress a message without a common context, as clients must."""
    compress = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (compress.compress(message) + compress.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(received: Received, context: Any = None) -> bytes:
    assert (received.opcode, received.rsv) == (TEXT, 4)
    decompress = zlib.decompressobj(wbits=-15) if context is None else context
    data: bytes = decompress.decompress(received.payload + b"\x00\x00\xff\xff")
    return data


class DeflateCase(WebSocketCase):
    async def deflating(self, parameters: str = "") -> Client:
        return await self.open("/api/chat", f"Sec-WebSocket-Extensions: permessage-deflate{parameters}")

    async def rest(self) -> None:
        """Wait until no request is running."""
        while self.site.inflight.count:
            await tick()


class NegotiationTests(DeflateCase):
    async def assert_answer(self, offer: str, answer: str | None) -> Client:
        client, head = await self.client("/api/chat", f"Sec-WebSocket-Extensions: {offer}")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
        lines = [line for line in head.decode().split("\r\n") if line.startswith("Sec-WebSocket-Ext")]
        self.assertEqual(lines, [] if answer is None else [f"Sec-WebSocket-Extensions: {answer}"], offer)
        return client

    async def test_the_client_is_asked_to_keep_no_context(self) -> None:
        plain = "permessage-deflate; client_no_context_takeover"
        await self.assert_answer("permessage-deflate", plain)
        await self.assert_answer("permessage-deflate; client_max_window_bits", plain)
        await self.assert_answer("permessage-deflate; client_max_window_bits=9", plain)
        await self.assert_answer("permessage-deflate; client_no_context_takeover", plain)
        await self.assert_answer("x-webkit-deflate-frame, permessage-deflate", plain)

    async def test_the_clients_parameters_for_the_server_are_accepted(self) -> None:
        await self.assert_answer(
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; "
            "client_no_context_takeover",
        )

    async def test_an_unacceptable_offer_is_ignored(self) -> None:
        for parameters in (
            "server_max_window_bits=8",  # zlib cannot
            "server_max_window_bits=16",
            "server_max_window_bits",
            "client_max_window_bits=7",
            "server_no_context_takeover=1",
            "client_no_context_takeover; client_no_context_takeover",
            "unknown",
        ):
            client = await self.assert_answer(f"permessage-deflate; {parameters}", None)
            client.send(frame(TEXT, BODY))
            received = await client.receive()
            self.assertEqual((received.rsv, received.payload), (0, RECORD))
            await self.assert_answer(
                f"permessage-deflate; {parameters}, permessage-deflate",
                "permessage-deflate; client_no_context_takeover",
            )

    async def test_other_extensions_are_ignored(self) -> None:
        for name in ("permessage-bzip2", "permessage-snappy", "x-webkit-deflate-frame", "mux; a=1"):
            await self.assert_answer(name, None)

    async def test_without_compression_its_bit_is_an_error(self) -> None:
        client = await self.assert_answer("x-webkit-deflate-frame", None)
        client.send(frame(TEXT, deflated(BODY), rsv=4))
        self.assertEqual((await client.receive()).close_code, 1002)


class MessageTests(DeflateCase):
    async def test_records_are_the_same_and_share_a_context_while_requests_run(self) -> None:
        client = await self.deflating()
        context = zlib.decompressobj(wbits=-15)
        client.send(text(wait=True, id=1))
        inflated(await client.receive(), context)
        sizes = []
        for _ in range(2):
            client.send(frame(TEXT, deflated(BODY), rsv=4))
            answer = await client.receive()
            self.assertEqual(inflated(answer, context), RECORD)
            sizes.append(len(answer.payload))
        self.assertLess(sizes[1], sizes[0])

    async def test_an_idle_connection_starts_a_new_context(self) -> None:
        client = await self.deflating()
        for body in (BODY, BODY, b"no object", b"no object"):
            client.send(frame(TEXT, deflated(body), rsv=4))
            self.assertIn(
                inflated(await client.receive()),
                (RECORD, b'{"status":400,"error":"a request must be a JSON object"}'),
            )
            await self.rest()

    async def test_without_takeover_every_record_has_its_own_context(self) -> None:
        client = await self.deflating("; server_no_context_takeover; server_max_window_bits=9")
        client.send(text(count=3, size=300, id=1))
        for number in (1, 2, 3):
            record = inflated(await client.receive(), zlib.decompressobj(wbits=-9))
            self.assertTrue(record.startswith(b'{"n":%d,' % number), record)

    async def test_messages_of_any_size_and_compression(self) -> None:
        client = await self.deflating()
        noise = random.Random(1).randbytes(20_000).hex().encode()
        for size in (0, 1, 15, 126, 1000, 65_536, LIMIT - 200):
            for level in (0, 1, 9):
                for bits in (9, 15):
                    pad = (noise * 3)[:size]
                    message = b'{"count":1,"pad":"%b"}' % pad
                    client.send(frame(TEXT, deflated(message, bits=bits, level=level), rsv=4))
                    self.assertTrue(inflated(await client.receive()).startswith(b'{"n":1,'))
                    await self.rest()

    async def test_records_of_any_size(self) -> None:
        client = await self.deflating()
        for size in (0, 100, 126, 65_000, 70_000, 300_000):
            client.send(text(size=size))
            self.assertEqual(len(inflated(await client.receive())), size + 34)
            await self.rest()

    async def test_a_client_need_not_compress_every_message(self) -> None:
        client = await self.deflating()
        for _ in range(2):
            client.send(frame(TEXT, BODY))
            self.assertEqual(inflated(await client.receive()), RECORD)
            await self.rest()
            client.send(frame(TEXT, deflated(BODY), rsv=4))
            self.assertEqual(inflated(await client.receive()), RECORD)
            await self.rest()

    async def test_fragments_of_a_compressed_message(self) -> None:
        client = await self.deflating()
        data = deflated(BODY)
        pieces = [frame(0, data[at : at + 1], fin=False) for at in range(1, len(data))]
        client.send(frame(TEXT, data[:1], fin=False, rsv=4) + b"".join(pieces))
        client.send(frame(PING, b"between") + frame(0))
        pong = await client.receive()
        self.assertEqual((pong.opcode, pong.rsv, pong.payload), (PONG, 0, b"between"))
        self.assertEqual(inflated(await client.receive()), RECORD)

    async def test_a_message_that_ends_with_a_final_block(self) -> None:
        # RFC 7692, section 7.2.3.4; the data after it is another message.
        client = await self.deflating()
        compress = zlib.compressobj(wbits=-15)
        data = compress.compress(BODY) + compress.flush(zlib.Z_FINISH) + b"\x00"
        for _ in range(2):
            client.send(frame(TEXT, data, rsv=4))
            self.assertEqual(inflated(await client.receive()), RECORD)
            await self.rest()


class ErrorTests(DeflateCase):
    async def assert_closes(self, data: bytes, code: int) -> None:
        client = await self.deflating()
        client.send(data)
        self.assertEqual((await client.receive()).close_code, code, data[:40])
        client.send(frame(CLOSE, code.to_bytes(2, "big")))
        await client.raw.gone

    async def test_a_bomb_is_over_the_size_limit(self) -> None:
        bomb = deflated(b" " * (LIMIT * 20))
        self.assertLess(len(bomb), LIMIT)
        await self.assert_closes(frame(TEXT, bomb, rsv=4), 1009)
        await self.assert_closes(frame(TEXT, bomb[:50], fin=False, rsv=4) + frame(0, bomb[50:]), 1009)

    async def test_invalid_deflate_data(self) -> None:
        await self.assert_closes(frame(TEXT, b"\xff" * 20, rsv=4), 1007)

    async def test_text_is_utf8_after_decompression(self) -> None:
        await self.assert_closes(frame(TEXT, deflated(b'{"pad":"\xff"}'), rsv=4), 1007)

    async def test_the_bit_belongs_to_the_first_frame_of_a_message_of_data(self) -> None:
        data = deflated(BODY)
        await self.assert_closes(frame(TEXT, data[:5], fin=False, rsv=4) + frame(0, data[5:], rsv=4), 1002)
        await self.assert_closes(frame(PING, b"x", rsv=4), 1002)
        for bits in (1, 2, 3, 5, 6, 7):
            await self.assert_closes(frame(TEXT, data, rsv=bits), 1002)


class MemoryTests(DeflateCase):
    async def test_an_idle_connection_keeps_no_compression_memory(self) -> None:
        number = 20
        clients = [await self.deflating("; client_max_window_bits") for _ in range(number)]
        # How many threads the pool starts depends on their speed, and their memory counts as well.
        self.pool.adjustPoolsize(number, number)

        async def exchange() -> None:
            for client in clients:
                client.send(frame(TEXT, deflated(b'{"count":5,"size":100}'), rsv=4))
            context = [zlib.decompressobj(wbits=-15) for _ in clients]
            for client, each in zip(clients, context, strict=True):
                for _ in range(5):
                    inflated(await client.receive(), each)
            await self.rest()
            await tick()

        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await exchange()
        gc.collect()
        kept = (tracemalloc.get_traced_memory()[0] - before) / number
        # The contexts of zlib alone would be 30,000; the data that this client received is included.
        self.assertLess(kept, 6_000)
