"""Claim: 64 episodes at a time keep an API busy: at least 90 % of what its concurrency limit allows.

    python benchmarks/api_throughput.py

A server on this machine, in a process of its own, answers each request of OpenAI's API after half a second with an
admissible command; 64 episodes of the toy household ask it, each at its own pace. The ideal is 64 requests every half
second. Services take a time of its own for each reply: rows "in the mean" draw it from an exponential distribution.
"Common ticks" is what agents that compute are played with: a tick lasts as long as its slowest reply.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import time
from functools import partial
from multiprocessing.connection import Connection

SECONDS = 0.5
SLOTS = 64
STEPS = 6


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spread: bool) -> None:
    """Serve one connection until it is closed."""
    while header := await reader.readuntil(b"\r\n\r\n"):
        arrived = time.monotonic()
        length = next(int(line[15:]) for line in header.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        asked = json.loads(await reader.readexactly(length))
        commands = asked["messages"][-1]["content"].rpartition("COMMANDS:\n")[2].splitlines()
        text = f"REASON:\nso\nACTION:\n{random.choice(commands)}"
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": asked["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        body = json.dumps(reply).encode()
        seconds = random.expovariate(1 / SECONDS) if spread else SECONDS
        await asyncio.sleep(seconds - (time.monotonic() - arrived))
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )


def serve(port: Connection, spread: bool) -> None:
    """Serve until the process is ended; says its port first."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer, spread)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=256)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def measure(episodes: int, spread: bool, apart: bool) -> tuple[int, float]:
    """Requests and seconds of a rollout, its episodes played apart or in common ticks."""
    import agentgym_prm  # noqa: F401 - registers the environments
    from agentgym_prm.agents.chat_api import ChatAgent
    from agentgym_prm.evaluate import make_envs, playing_envs
    from agentgym_prm.inference import ChatRequest, connect
    from agentgym_prm.rollout import collect

    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    server = context.Process(target=serve, args=(sender, spread), daemon=True)
    server.start()
    try:
        model = connect("openai:toy", base_url=f"http://127.0.0.1:{receiver.recv()}/v1", concurrency=SLOTS)
        # The SDK is imported, and connections are made, before the clock runs.
        model.complete([ChatRequest((("user", "COMMANDS:\ngo"),))] * SLOTS)
        make = partial(make_envs, "agentgym_prm/Toy-v0", max_episode_steps=STEPS)
        agent = ChatAgent(model)
        envs = playing_envs(agent, make, SLOTS) if apart else [make(SLOTS)]
        before, began = model.budget.spent.requests, time.perf_counter()
        collect(agent, envs, range(episodes))
        seconds = time.perf_counter() - began
        for each in envs:
            each.close()
        return model.budget.spent.requests - before, seconds
    finally:
        server.terminate()
        server.join()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=256)
    episodes = parser.parse_args().episodes
    print(f"{'reply after':<28}{'requests':>9}{'seconds':>9}{'requests/s':>12}{'ideal':>8}{'share':>8}")
    rows = (
        *[("0.5 s", False, True)] * 3,
        ("0.5 s in the mean", True, True),
        ("0.5 s, common ticks", False, False),
        ("0.5 s in the mean, the same", True, False),
    )
    for name, spread, apart in rows:
        requests, seconds = measure(episodes, spread, apart)
        ideal = SLOTS / SECONDS
        rate = requests / seconds
        print(f"{name:<28}{requests:>9}{seconds:>9.1f}{rate:>12.1f}{ideal:>8.0f}{rate / ideal:>8.1%}", flush=True)


if __name__ == "__main__":
    main()
