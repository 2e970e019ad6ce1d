"""A server with the Python SDK 2.x and what the checks of eras.md call.      python server.py streamable-http|sse PORT

Streamable HTTP serves both eras at /mcp; HTTP+SSE is the older era, at /sse.
"""

import asyncio
import sys
from typing import Annotated

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve, Sample
from pydantic import BaseModel

WAY, PORT = sys.argv[1], int(sys.argv[2])
WATCHED = "test://watched-resource"
server = MCPServer("python-server", version="1")
cancelled = 0


@server.resource(WATCHED)
def watched() -> str:
    return "watched"


@server.tool()
def x_echo(token: str) -> str:
    return token


@server.tool()
def x_cancelled() -> str:
    return str(cancelled)


@server.tool()
async def x_slow(ms: int) -> str:
    global cancelled
    try:
        await asyncio.sleep(ms / 1000)
    except BaseException:
        cancelled += 1
        raise
    return "finished"


@server.tool()
async def x_touch(ctx: Context) -> str:
    await ctx.notify_resource_updated(WATCHED)
    return "touched"


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100, f"step {progress}")
        await asyncio.sleep(0.1)
    return "done"


@server.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
        await asyncio.sleep(0.05)
    return "done"


class Answer(BaseModel):
    response: str


async def asked(message: str) -> Elicit[Answer]:
    return Elicit(message, Answer)


async def sampled(prompt: str) -> Sample:
    text = types.TextContent(type="text", text=prompt)
    return Sample([types.SamplingMessage(role="user", content=text)], max_tokens=100)


# Questions are put by resolvers: the SDK sends them as requests in the older era, as `input_required` in the newer.
@server.tool()
async def test_elicitation(message: str, answer: Annotated[Answer, Resolve(asked)]) -> str:
    return f"User response: {answer.response}"


@server.tool()
async def test_sampling(prompt: str, answer: Annotated[types.CreateMessageResult, Resolve(sampled)]) -> str:
    return f"LLM response: {answer.content.text}"


server.run(WAY, host="127.0.0.1", port=PORT)
