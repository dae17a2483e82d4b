"""A TCP line that is slow one way: what a server answers arrives later by a fixed time, in order, however much it is.

python -m ettametta_pipelines_tests.load.slow_line TO_PORT DELAY_MS     prints the port it listens on
"""

import asyncio
import sys


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(1 << 16):
            # Not slept here: the next piece would then be late twice.
            loop.call_later(delay_s, writer.write, data)
        await asyncio.sleep(delay_s)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(to_port: int, delay_s: float) -> asyncio.Server:
    """Listening on a free port of the loopback interface."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, there_writer, 0), _pass_on(there_reader, writer, delay_s))

    return await asyncio.start_server(connected, "127.0.0.1", 0)


async def main(to_port: int, delay_ms: float) -> None:
    server = await serve(to_port, delay_ms / 1000)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
