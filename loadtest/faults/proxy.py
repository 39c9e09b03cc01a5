"""A TCP proxy in front of a server: it passes bytes on, later, one way only, or not at all."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

_PAGE = 1 << 17
_PATIENCE_S = 30.0


class Proxy:
    """Listens on a port of loopback, in a thread of its own; safe to be called from any."""

    def __init__(self, host: str, port: int) -> None:
        """Start; connections are passed on to `host` and `port`."""
        self._to = (host, port)
        self._delay_s = 0.0
        self._is_cut = False
        self._loses_replies = False
        self._ends: set[asyncio.WriteTransport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_PAGE)
        self._server = self._run(listening)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break all lines, and let no new one come up."""
        self._is_cut = True
        self._run(self._abort())

    def join(self) -> None:
        """Let lines come up again, and replies pass."""
        self._is_cut = self._loses_replies = False

    def lose_replies(self) -> None:
        """Let what is sent pass, and swallow what is answered: nobody knows what became of it."""
        self._loses_replies = True

    def lead_to(self, host: str, port: int) -> None:
        """Pass new lines on to another server."""
        self._to = (host, port)

    def delay(self, seconds: float) -> None:
        """Hold back what passes, each way, for so long; 0: no more."""
        self._delay_s = seconds

    def close(self) -> None:
        """Break all lines, and stop listening."""

        async def end() -> None:
            self._server.close()
            await self._abort()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - what it returns
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)

    async def _abort(self) -> None:
        for end in list(self._ends):
            end.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            there, to_there = await asyncio.open_connection(*self._to, limit=_PAGE)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer.transport, to_there.transport}
        self._ends |= ends
        try:
            await asyncio.gather(
                self._pass(reader, to_there, is_reply=False),
                self._pass(there, writer, is_reply=True),
            )
        finally:
            self._ends -= ends
            for end in ends:
                end.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        """Pass one way on; a delay shifts bytes in time, it does not make them fewer."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)
        clock = asyncio.get_running_loop()

        async def write() -> None:
            while True:
                at_s, data = await waiting.get()
                if not data:
                    return
                if (wait_s := at_s - clock.time()) > 0:
                    await asyncio.sleep(wait_s)
                sink.write(data)
                await sink.drain()

        writing = asyncio.create_task(write())
        with suppress(OSError):
            while not writing.done() and (data := await source.read(_PAGE)):
                if is_reply and self._loses_replies:
                    continue
                await waiting.put((clock.time() + self._delay_s, data))
        if not writing.done():
            await waiting.put((0.0, b""))
        with suppress(OSError):
            await writing
        sink.transport.abort()
