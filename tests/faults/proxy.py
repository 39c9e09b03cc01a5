"""A TCP proxy that cuts lines, holds replies back, loses them, or leads elsewhere."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any


class Proxy:
    """Passes bytes on between clients and one server, as told; it runs in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay_s = 0.0
        self.loses_replies = False
        self.port = 0
        self._lines: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break all lines; new ones are let through."""

        async def close() -> None:
            for line in list(self._lines):
                line.transport.abort()

        self._do(close())

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for line in list(self._lines):
                line.transport.abort()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_server = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        self._lines |= {writer, to_server[1]}
        try:
            await asyncio.gather(
                self._pass(reader, to_server[1], is_reply=False),
                self._pass(to_server[0], writer, is_reply=True),
            )
        finally:
            for line in (writer, to_server[1]):
                self._lines.discard(line)
                line.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if is_reply and self.loses_replies:
                    continue
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
