"""The Python SDK 2.x as client.      python py.py BASE_URL legacy|auto|sse

legacy and auto speak Streamable HTTP; auto asks for the 2026-07-28 era first and falls back to initialize.
"""

import asyncio
import os
import sys
import traceback

import mcp_types as types
from mcp import Client
from mcp.client.sse import sse_client

BASE, WAY = sys.argv[1:3]
NAME = f"py-{WAY}"
FAILED = 0


def transport(server):
    return sse_client(f"{BASE}/{server}/sse") if WAY == "sse" else f"{BASE}/{server}/mcp"


def connect(server, **callbacks):
    mode = "auto" if WAY == "auto" else "legacy"
    info = types.Implementation(name=NAME, version="1")
    return Client(transport(server), mode=mode, client_info=info, read_timeout_seconds=30, **callbacks)


def text_of(result):
    text = "\n".join(c.text for c in result.content if c.type == "text")
    assert not result.is_error, f"isError: {text[:200]}"
    return text


async def check(server, what, fn, limit=30):
    global FAILED
    try:
        note = await asyncio.wait_for(fn(), limit)
        print(f"ok {NAME} {server} {what}" + (f" ({note})" if note else ""), flush=True)
    except Exception as e:
        FAILED += 1
        traceback.print_exc()
        while isinstance(e, BaseExceptionGroup) and e.exceptions:
            e = e.exceptions[0]
        reason = " ".join(f"{type(e).__name__}: {e}".split())[:300]
        print(f"FAIL {NAME} {server} {what}: {reason}", flush=True)


def contains(text, *parts):
    for part in parts:
        assert part in text, f"no {part!r} in {text[:200]!r}"


async def remember(client):
    name = f"entity-of-{NAME}-{os.getpid()}"
    entity = {"name": name, "entityType": "test", "observations": ["remembers grüße"]}
    text_of(await client.call_tool("create_entities", {"entities": [entity]}))
    contains(text_of(await client.call_tool("search_nodes", {"query": name})), name, "remembers grüße")


def calls(tool, arguments, *parts):
    async def fn(client):
        contains(text_of(await client.call_tool(tool, arguments)), *parts)

    return fn


SERVERS = {
    "everything": (["echo", "get-sum"], "get-sum", calls("get-sum", {"a": 19, "b": 23}, "42")),
    "memory": (["create_entities", "read_graph"], "search_nodes", remember),
    "filesystem": (["read_text_file", "write_file"], "read_text_file",
                   calls("read_text_file", {"path": os.environ["EXT_FILES"] + "/hello.txt"}, "hello from a file")),
    "time": (["get_current_time", "convert_time"], "convert_time",
             calls("convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
                   "T21:00:00+09:00")),
    "git": (["git_status", "git_log"], "git_log", calls("git_log", {"repo_path": os.environ["EXT_REPO"]}, "the only commit")),
}


async def basics(server):
    listed, what, call = SERVERS[server]

    async def whole():
        async with connect(server) as client:
            revision = client.protocol_version

            async def listing():
                names = [t.name for t in (await client.list_tools()).tools]
                for n in listed:
                    assert n in names, f"no tool {n} among {names}"
                return f"{len(names)} tools"

            await check(server, "tools/list", listing)
            await check(server, what, lambda: call(client))
        return f"speaks {revision}"

    await check(server, "connect and close", whole, 70)


async def features():
    asked, elicited, logged, updated = [], [], [], []

    async def on_sampling(_context, params):
        asked.append(params)
        return types.CreateMessageResult(role="assistant", model="model-of-the-test",
                                         content=types.TextContent(type="text", text="sampled by the client"))

    async def on_elicitation(_context, params):
        elicited.append(params)
        return types.ElicitResult(action="accept", content={"name": "Ada of the test"})

    async def on_log(params):
        logged.append(params)

    async def on_message(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            updated.append(str(message.params.uri))

    async def until(what, condition):
        for _ in range(320):
            if condition():
                return
            await asyncio.sleep(0.025)
        raise AssertionError(f"{what}: nothing within 8 s")

    async def whole():
        async with connect("everything", sampling_callback=on_sampling, elicitation_callback=on_elicitation,
                           logging_callback=on_log, message_handler=on_message) as client:
            modern = client.protocol_version >= "2026"

            async def progress():
                got = []

                async def on_progress(progress, _total, _message):
                    got.append(progress)

                text = text_of(await client.call_tool("trigger-long-running-operation", {"duration": 1, "steps": 5},
                                                      progress_callback=on_progress))
                contains(text, "completed")
                assert len(got) >= 4 and got == list(range(1, len(got) + 1)), f"progress seen: {got}"
                return f"{len(got)} of 5"

            async def sampling():
                contains(text_of(await client.call_tool("trigger-sampling-request", {"prompt": "a question"})),
                         "sampled by the client")
                assert asked, "the callback was not called"

            async def elicitation():
                contains(text_of(await client.call_tool("trigger-elicitation-request", {})), "Ada of the test")
                assert elicited, "the callback was not called"

            async def logging():
                await client.set_logging_level("debug")
                await client.call_tool("toggle-simulated-logging", {})
                await until("log message", lambda: logged)
                await client.call_tool("toggle-simulated-logging", {})

            async def subscription():
                uri = "demo://resource/dynamic/text/1"
                await client.subscribe_resource(uri)
                await client.call_tool("toggle-subscriber-updates", {})
                await until("resource update", lambda: uri in updated)
                await client.call_tool("toggle-subscriber-updates", {})

            await check("everything", "progress of a long call", progress)
            await check("everything", "sampling round trip", sampling)
            await check("everything", "elicitation round trip", elicitation)
            if not modern:
                await check("everything", "logging", logging)
                await check("everything", "subscribe and updated", subscription)

    await check("everything", "connect and close with capabilities", whole, 120)


async def main():
    for server in SERVERS:
        await basics(server)
    await features()


asyncio.run(asyncio.wait_for(main(), float(os.environ.get("CLIENT_LIMIT_MS", "180000")) / 1000))
sys.exit(1 if FAILED else 0)
