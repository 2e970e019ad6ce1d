"""The Python SDK 2.x as client.      python py.py BASE_URL legacy|auto|pinned|sse|connect [MOUNT...]

connect is `hubward connect` over stdio, with the arguments that EXT_CONNECT has for a server; sse is HTTP+SSE. The
others speak Streamable HTTP; auto asks for the 2026-07-28 era first and falls back to initialize, pinned speaks
nothing else. With mounts named it does the checks of eras.md at each of them.
"""

import asyncio
import contextlib
import json
import os
import sys
import traceback

import mcp_types as types
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client

BASE, WAY, *MOUNTS = sys.argv[1:]
NAME = f"py-{WAY}"
FAILED = 0


def transport(server):
    if WAY == "connect":
        args = ["connect", *json.loads(os.environ["EXT_CONNECT"])[server]]
        return stdio_client(StdioServerParameters(command=os.environ["HUBWARD"], args=args, env=dict(os.environ)))
    return sse_client(f"{BASE}/{server}/sse") if WAY == "sse" else f"{BASE}/{server}/mcp"


def connect(server, **callbacks):
    mode = {"auto": "auto", "connect": "auto", "pinned": "2026-07-28"}.get(WAY, "legacy")
    info = types.Implementation(name=NAME, version="1")
    return Client(transport(server), mode=mode, client_info=info, read_timeout_seconds=30, **callbacks)


def text_of(result):
    text = "\n".join(c.text for c in result.content if c.type == "text")
    assert not result.is_error, f"isError: {text[:200]}"
    return text


def failed(server, what, e):
    global FAILED
    FAILED += 1
    traceback.print_exception(e)
    while isinstance(e, BaseExceptionGroup) and e.exceptions:
        e = e.exceptions[0]
    reason = " ".join(f"{type(e).__name__}: {e}".split())[:300]
    print(f"FAIL {NAME} {server} {what}: {reason}", flush=True)


async def check(server, what, fn, limit=30):
    try:
        note = await asyncio.wait_for(fn(), limit)
        print(f"ok {NAME} {server} {what}" + (f" ({note})" if note else ""), flush=True)
    except Exception as e:
        failed(server, what, e)


def contains(text, *parts):
    for part in parts:
        assert part in text, f"no {part!r} in {text[:200]!r}"


def among(names, variable):
    """Leaves out what a script has no server for."""
    return [n for n in names if n in os.environ.get(variable, n).split(",")]


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
                   calls("read_text_file", {"path": os.environ.get("EXT_FILES", "") + "/hello.txt"}, "hello from a file")),
    "time": (["get_current_time", "convert_time"], "convert_time",
             calls("convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
                   "T21:00:00+09:00")),
    "git": (["git_status", "git_log"], "git_log", calls("git_log", {"repo_path": os.environ.get("EXT_REPO", "")}, "the only commit")),
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


async def eras(mount):
    """The cells of eras.md at one mount of a test server of the conformance suite."""
    modern, logged, updated = WAY != "legacy", [], []

    async def on_sampling(_context, _params):
        return types.CreateMessageResult(role="assistant", model="model-of-the-test",
                                         content=types.TextContent(type="text", text="sampled by the client"))

    async def on_elicitation(_context, _params):
        return types.ElicitResult(action="accept", content={"response": "Ada of the test"})

    async def on_log(params):
        logged.append(params)

    async def on_message(message):
        if isinstance(message, types.ResourceUpdatedNotification):
            updated.append(str(message.params.uri))

    stack, uri = contextlib.AsyncExitStack(), "test://watched-resource"
    client = None

    async def call(tool, arguments, **more):
        return text_of(await client.call_tool(tool, arguments, **more))

    async def connecting():
        nonlocal client
        client = await stack.enter_async_context(connect(
            mount, sampling_callback=on_sampling, elicitation_callback=on_elicitation, logging_callback=on_log,
            message_handler=on_message))
        assert (client.protocol_version >= "2026") == modern, f"the other era came out: {client.protocol_version}"
        return f"speaks {client.protocol_version}"

    async def listing():
        names = [t.name for t in (await client.list_tools()).tools]
        assert "x_echo" in names, f"no tool x_echo among {names}"
        return f"{len(names)} tools"

    async def calling():
        assert await call("x_echo", {"token": "grüße"}) == "grüße"

    async def progress():
        got = []

        async def on_progress(progress, _total, _message):
            got.append(progress)

        await call("test_tool_with_progress", {}, progress_callback=on_progress)
        assert got == [0, 50, 100], f"progress seen: {got}"

    async def logs(level):
        logged.clear()
        if modern:
            await call("test_tool_with_logging", {}, meta={"io.modelcontextprotocol/logLevel": level})
        else:
            await client.set_logging_level(level)
            await call("test_tool_with_logging", {})
        await asyncio.sleep(0.2)
        return len(logged)

    async def log_level():
        # Nobody on the way from a server of the older era of ours to an older client filters.
        if modern or not mount.startswith("legacy"):
            assert await logs("error") == 0, "messages below the level"
        n = await logs("info")
        assert n == 3, f"{n} of 3 messages"

    async def elicitation():
        contains(await call("test_elicitation", {"message": "who?"}), "Ada of the test")

    async def sampling():
        contains(await call("test_sampling", {"prompt": "what?"}), "sampled by the client")

    async def subscription():
        if modern:
            async with client.listen(resource_subscriptions=[uri]) as events:
                await call("x_touch", {})
                assert (await asyncio.wait_for(anext(events), 5)).uri == uri
            return
        await client.subscribe_resource(uri)
        await call("x_touch", {})
        for _ in range(200):
            if uri in updated:
                return
            await asyncio.sleep(0.025)
        raise AssertionError("resource update: nothing within 5 s")

    async def cancel():
        before = int(await call("x_cancelled", {}))
        slow = asyncio.create_task(call("x_slow", {"ms": 20_000}))
        await asyncio.sleep(0.4)
        slow.cancel()
        await asyncio.wait([slow])
        for _ in range(40):
            if int(await call("x_cancelled", {})) > before:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the server has not seen it")

    checks = {"connect": connecting, "list": listing, "call": calling, "progress": progress, "log level": log_level,
              "elicitation": elicitation, "sampling": sampling, "subscription": subscription, "cancel": cancel}
    for what, fn in checks.items():
        if what not in among(checks, "EXT_ERA_CHECKS"):
            continue
        if what == "connect":
            # In this task: the SDK's scopes have to be left by the task that entered them.
            try:
                print(f"ok {NAME} {mount} connect ({await connecting()})", flush=True)
            except Exception as e:
                client = None
                failed(mount, what, e)
        elif client is None:
            failed(mount, what, RuntimeError("not connected"))
        else:
            await check(mount, what, fn, 20)
    with contextlib.suppress(Exception):
        await stack.aclose()


async def main():
    if MOUNTS:
        for mount in MOUNTS:
            await eras(mount)
        return
    for server in among(SERVERS, "EXT_SERVERS"):
        await basics(server)
    await features()


asyncio.run(asyncio.wait_for(main(), float(os.environ.get("CLIENT_LIMIT_MS", "180000")) / 1000))
sys.exit(1 if FAILED else 0)
