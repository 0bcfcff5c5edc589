"""Frames of RFC 6455: valid ones, and the close codes of invalid ones."""

from tests.http.websocket.frames import CLOSE, PING, PONG, TEXT, frame
from tests.http.websocket.test_connection import LIMIT, WebSocketCase

BODY = b'{"count":1,"pad":"\xce\xba\xe1\xbd\xb9"}'


class FrameTests(WebSocketCase):
    async def assert_closes(self, data: bytes, code: int) -> None:
        client = await self.open()
        client.send(data)
        received = await client.receive()
        self.assertEqual(received.close_code, code, data[:40])
        client.send(frame(CLOSE, code.to_bytes(2, "big")))
        await client.raw.gone

    async def assert_serves(self, data: bytes) -> None:
        client = await self.open()
        client.send(data)
        self.assertEqual((await client.record())["n"], 1)

    async def test_fragments_make_one_message(self) -> None:
        await self.assert_serves(frame(TEXT, BODY[:5], fin=False) + frame(0, BODY[5:]))
        pieces = [frame(0, BODY[at : at + 1], fin=False) for at in range(1, len(BODY))]
        await self.assert_serves(frame(TEXT, BODY[:1], fin=False) + b"".join(pieces) + frame(0))

    async def test_control_frames_may_come_between_fragments(self) -> None:
        client = await self.open()
        client.send(frame(TEXT, BODY[:20], fin=False) + frame(PING, b"now") + frame(0, BODY[20:]))
        pong = await client.receive()
        self.assertEqual((pong.opcode, pong.payload), (PONG, b"now"))
        self.assertEqual((await client.record())["n"], 1)

    async def test_bytes_may_come_one_at_a_time(self) -> None:
        client = await self.open()
        client.raw.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        for byte in frame(TEXT, BODY):
            client.send(bytes([byte]))
        self.assertEqual((await client.record())["n"], 1)

    async def test_a_ping_is_answered_with_its_payload_and_a_pong_is_not(self) -> None:
        client = await self.open()
        for payload in (b"", b"\x00\xff\xfe", b"p" * 125):
            client.send(frame(PONG, b"unasked") + frame(PING, payload))
            pong = await client.receive()
            self.assertEqual((pong.opcode, pong.payload), (PONG, payload))

    async def test_lengths_of_all_three_forms(self) -> None:
        for size in (100, 125 - len(BODY), 126, 65_535 - len(BODY), 65_536, LIMIT - len(BODY)):
            await self.assert_serves(frame(TEXT, BODY + b" " * size))

    async def test_broken_fragmentation(self) -> None:
        for data in (
            frame(0, BODY),
            frame(0, BODY, fin=False),
            frame(TEXT, BODY[:5], fin=False) + frame(TEXT, BODY),
            frame(TEXT, BODY[:5], fin=False) + frame(0, BODY[5:]) + frame(0, b"more"),
            frame(PING, b"x", fin=False),
            frame(CLOSE, b"\x03\xe8", fin=False),
        ):
            client = await self.open()
            client.send(data)
            while (received := await client.receive()).opcode == TEXT:
                pass
            self.assertEqual(received.close_code, 1002, data)

    async def test_oversized_control_frames(self) -> None:
        for opcode in (PING, PONG, CLOSE):
            await self.assert_closes(frame(opcode, b"\x03\xe8" + b"x" * 124), 1002)

    async def test_reserved_bits_and_opcodes(self) -> None:
        for bits in range(1, 8):
            await self.assert_closes(frame(TEXT, BODY, rsv=bits), 1002)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            await self.assert_closes(frame(opcode, b"x"), 1002)

    async def test_frames_without_a_mask(self) -> None:
        await self.assert_closes(frame(TEXT, BODY, masked=False), 1002)

    async def test_a_length_that_is_longer_than_it_needs_to_be(self) -> None:
        await self.assert_closes(b"\x81\xfe\x00\x05\x00\x00\x00\x00hello", 1002)
        await self.assert_closes(b"\x81\xff" + (5).to_bytes(8, "big") + b"\x00\x00\x00\x00hello", 1002)
        await self.assert_closes(b"\x81\xff" + (1 << 63).to_bytes(8, "big") + b"\x00\x00\x00\x00", 1002)

    async def test_bad_utf8(self) -> None:
        for bad in (
            b"\xff",
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xce",
            b"\xf8\x88\x80\x80\x80",
            b"\xfc\x84\x80\x80\x80\x80",
            b"\x80",
            b"\xbf\x80",
            b"\xc1\xbf",
            b"\xe0\x80\xaf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xed\xaf\xbf\xed\xbf\xbf",
            b"\xf7\xbf\xbf\xbf",
            b"\xfe",
            b"\xe2\x82 ",
        ):
            await self.assert_closes(frame(TEXT, b'{"pad":"' + bad), 1007)
        await self.assert_closes(frame(TEXT, b'"\xce', fin=False) + frame(0, b"\xce"), 1007)
        # Immediately, not at the end of the message.
        await self.assert_closes(frame(TEXT, b"\xf4\x90", fin=False), 1007)

    async def test_every_length_of_utf8_and_its_ends(self) -> None:
        characters = "\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\ufffe\uffff\U00010000\U0001fffe\U0010ffff"
        await self.assert_serves(frame(TEXT, b'{"count":1,"pad":"%b"}' % characters.encode()))
        for character in characters:
            data = b'{"count":1,"pad":"%b"}' % character.encode()
            pieces = [frame(0, data[at : at + 1], fin=False) for at in range(1, len(data))]
            await self.assert_serves(frame(TEXT, data[:1], fin=False) + b"".join(pieces) + frame(0))

    async def test_a_character_may_be_split_between_fragments(self) -> None:
        split = BODY.index(b"\xbd")
        await self.assert_serves(frame(TEXT, BODY[:split], fin=False) + frame(0, BODY[split:]))

    async def test_close_codes(self) -> None:
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
            await self.assert_closes(frame(CLOSE, code.to_bytes(2, "big") + b"bye"), 1000)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
            await self.assert_closes(frame(CLOSE, code.to_bytes(2, "big")), 1002)
        await self.assert_closes(frame(CLOSE), 1000)
        await self.assert_closes(frame(CLOSE, b"\x03"), 1002)
        await self.assert_closes(frame(CLOSE, b"\x03\xe8\xff"), 1007)
        await self.assert_closes(frame(CLOSE, b"\x03\xe8" + b"x" * 123), 1000)

    async def test_data_after_a_close_frame_is_ignored(self) -> None:
        client = await self.open()
        client.send(frame(CLOSE, b"\x03\xe8") + frame(TEXT, BODY) + frame(PING, b"x"))
        await client.raw.gone
        self.assertEqual((await client.receive()).close_code, 1000)
        self.assertEqual((client.frames, self.counter.started), ([], 0))

    async def test_over_the_size_limit(self) -> None:
        await self.assert_closes(frame(TEXT, b" " * (LIMIT + 1)), 1009)
        # The length alone is refused.
        await self.assert_closes(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\x00\x00\x00\x00", 1009)
        half = b" " * (LIMIT // 2 + 1)
        await self.assert_closes(frame(TEXT, half, fin=False) + frame(0, half), 1009)
