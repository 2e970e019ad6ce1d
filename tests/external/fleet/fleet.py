"""The Python SDK 2.x before several hubs behind a balancer, until the file $EXT_ROLLED exists.  fleet.py BALANCER BASE_URL

As fleet.mjs: a session of the older eras that is lost is opened again by the program, which the SDK leaves to it.
"""

import asyncio
import contextlib
import os
import sys
import traceback

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

BALANCER, BASE = sys.argv[1:]
FAILED = 0
PATIENCE = 200  # seconds: a busy machine is no failed call


def say(well, text):
    global FAILED
    FAILED += not well
    print(f"{'ok' if well else 'FAIL'} fleet {BALANCER} - {text}", flush=True)


async def on_elicitation(_context, _params):
    return types.ElicitResult(action="accept", content={"name": "Ada"})


async def use(mode, name):
    """Opens sessions, one after the other, and calls; returns (calls, lost, failed)."""
    calls, lost, failed = 0, 0, []
    headers = {"Authorization": f"Bearer {name}-{os.environ['EXT_TOKEN']}"}

    async def call(client, tool, arguments, expected):
        nonlocal calls
        calls += 1
        result = await client.call_tool(tool, arguments)
        text = "\n".join(block.text for block in result.content if block.type == "text")
        assert not result.is_error and expected in text, f"{tool}: {text[:200]}"

    async def session():
        """Until the end, or the first call that fails: what came of that, whatever the closing says after it."""
        cause = None
        with contextlib.suppress(Exception):
            async with create_mcp_http_client(headers=headers, timeout=httpx2.Timeout(PATIENCE)) as http:
                transport = streamable_http_client(f"{BASE}/demo/mcp", http_client=http)
                cause = ConnectionError("no connection")
                async with Client(transport, mode=mode, read_timeout_seconds=PATIENCE, elicitation_callback=on_elicitation) as client:
                    try:
                        cause = None
                        if calls == 0:
                            await call(client, "ask_name", {}, "Hello, Ada")
                            print("fleet: in use", file=sys.stderr, flush=True)
                        while not os.path.exists(os.environ["EXT_ROLLED"]):
                            await call(client, "echo", {"text": f"{calls} grüße"}, f"{calls} grüße")
                            await asyncio.sleep(0.25)
                    except Exception as e:
                        cause = e
                        traceback.print_exc()
        return cause

    row = 0
    while not os.path.exists(os.environ["EXT_ROLLED"]):
        began = calls
        cause = await session()
        # One that is opened in the instant in which its hub comes or goes answers nothing: once in a row at most.
        row = 0 if calls > began + 1 else row + 1
        if mode == "legacy" and "session is unknown" in str(cause) and row < 2:
            lost += 1
        elif cause:
            failed.append(f"{type(cause).__name__}: {cause}")
            await asyncio.sleep(0.5)
    return calls, lost, failed


async def main():
    modes = {"py-legacy": "legacy", "py-pinned": "2026-07-28"}
    outcomes = await asyncio.gather(*(use(mode, f"{name}-0") for name, mode in modes.items()))
    for name, (calls, lost, failed) in zip(modes, outcomes):
        what = f"{name}: no call failed during the update"
        if failed or calls < 4:
            say(False, f"{what}: {len(failed)} of {calls} calls: {'; '.join(sorted(set(failed))[:3])[:300]}")
        else:
            say(True, f"{what} ({calls} calls, {lost} sessions opened again)")


asyncio.run(asyncio.wait_for(main(), float(os.environ.get("CLIENT_LIMIT_MS", "180000")) / 1000))
sys.exit(1 if FAILED else 0)
