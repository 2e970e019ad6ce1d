#!/usr/bin/env python3
"""Measures the hub against its targets, beside a bare pipe in the same run.

Prints a table and writes it as JSON. Each figure of the hub stands beside one that was taken in the same minute:
own CPU, calls a second and tails mean something as ratios only. See README.md; run.sh builds what is needed.

    targets.py [--reps 3] [--seconds 2] [--only part-of-a-row] [--short] [--json FILE]
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

from compare import BIN, OUT, PEERS, Running, load

HUB = os.environ["HUB_BIN"]
FIXTURE = f"{BIN}/fixture-stdio"
SHARED = 'isolation = "shared"'
LIMITS = "[hub.limits]\nsessions_max = 200000\nstreams_max = 20000\nconnections_max = 20000\nprincipal_streams_max = 20000\nprincipal_sessions_max = 200000\n"


def hub(name="hub", head="", each="", scheme="http", **more):
    """A hub with upstreams of these keys."""
    return {
        "name": name,
        "cmd": f"{HUB} serve -c @config@ --bind {'https://' if scheme == 'https' else ''}127.0.0.1:@port@",
        "url": f"{scheme}://127.0.0.1:@port@/@name@/mcp",
        "sse_url": f"{scheme}://127.0.0.1:@port@/@name@/sse",
        "config": {
            "ext": "toml",
            "head": f"[hub]\nadmin_socket = \"{OUT}/admin-@port@.sock\"\n{head}\n",
            "each": f"[upstreams.@name@]\ncommand = \"{FIXTURE}\"\n{each or SHARED}\n",
        },
        **more,
    }


PIPE = {"name": "ceiling-pipe", "cmd": "@bin@/ceiling-pipe --how naive --port @port@ --child @fixture@", "url": "http://127.0.0.1:@port@/mcp"}
# What 16 children alone cost: their wakes, and the caches they take from one another.
PIPES = {**PIPE, "name": "ceiling-pipes", "cmd": PIPE["cmd"] + " --children 16"}
PROXY_RS = {
    "name": "mcp-proxy-rs", "cmd": "@peers@/cargo/bin/mcp-proxy --config @config@", "url": "http://127.0.0.1:@port@/",
    "prefix": "@name@/", "always_prefix": True, "env": {"RUST_LOG": "warn"},
    "config": {"ext": "toml", "head": "[proxy]\nname = \"bench\"\nseparator = \"/\"\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = @port@\n",
               "each": "[[backends]]\nname = \"@name@\"\ntransport = \"stdio\"\ncommand = \"@fixture@\"\nargs = []\n"},
}


class Bench:
    def __init__(self, options):
        self.o = options
        self.samples = {}
        self.errors = []

    def put(self, key, value):
        if value is not None:
            self.samples.setdefault(key, []).append(value)

    def get(self, key):
        values = self.samples.get(key)
        return statistics.median(values) if values else None

    def over(self, key, other):
        """The ratio of two figures of the same run."""
        a, b = self.get(key), self.get(other)
        return a / b if a is not None and b else None

    def take(self, key, row, **fields):
        if row.get("errors"):
            self.errors.append(f"{key}: {row['errors']} errors, the first: {row.get('first_error')}")
        for name, field in fields.items():
            self.put(f"{key}.{name}", row.get(field))

    def call(self, key, running, mode, *args, url=None):
        arguments = running.args(*args, "--seconds", self.o.seconds)
        if url:
            arguments[1] = url
        row = load(mode, *arguments, limit=60 + self.o.seconds)
        self.take(key, row, cpu="server_us_per_req", rps="rps", p99="p99_ms", mbs="mb_per_s", notes="notes_per_call")
        return row

    def run(self, contender, work, n=1):
        running = Running(contender, n)
        try:
            started = running.start()
            running.started_ms = started["start_ms"]
            work(running)
        finally:
            running.stop()

    # What is measured of each.

    def calls(self, key):
        def work(r):
            for c in (1, 16, 64):
                self.call(f"{key}:{c}", r, "call", "--concurrency", c, "--sessions", c)
        return work

    def loads(self, key):
        def work(r):
            self.call(f"{key}:payload", r, "payload", "--concurrency", 4, "--sessions", 4, "--size", 1 << 20)
            self.call(f"{key}:progress", r, "progress", "--concurrency", 4, "--sessions", 4, "--count", 10)
            self.churn(key)(r)
        return work

    def churn(self, key):
        return lambda r: self.call(f"{key}:churn", r, "churn", "--concurrency", 4)

    def c16(self, key, mode="call"):
        return lambda r: self.call(key, r, mode, "--concurrency", 16, "--sessions", 16)

    def hub_loads(self, r):
        self.loads("hub")(r)
        self.call("hub:stateless", r, "stateless", "--concurrency", 16)
        sse = r.c["sse_url"].replace("@port@", str(r.words["port"])).replace("@name@", r.words["name"])
        self.call("hub:sse", r, "sse", "--concurrency", 16, "--sessions", 16, url=sse)

    def hold(self, n):
        def work(r):
            row = load("sessions", *r.args("--sessions", n, "--concurrency", 8, "--timeout", 120), limit=240)
            self.take(f"sessions:{n}", row, kb="own_kb_per_session", streams="streams")
        return work

    def beside_streams(self, n):
        """Calls while others hold streams."""
        def work(r):
            self.call("lonely", r, "call", "--concurrency", 16, "--sessions", 16)
            line = [f"{BIN}/mcpload", "sessions", *map(str, r.args("--sessions", n, "--concurrency", 8, "--timeout", 120, "--seconds", 1))]
            held = subprocess.Popen([*line, "--hold", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                assert held.stdout.readline().strip() == "held"
                self.call("crowded", r, "call", "--concurrency", 16, "--sessions", 16)
            finally:
                held.stdin.close()
                held.wait(60)
        return work

    def beside_handshakes(self, count):
        """Calls while others shake hands, at a pace and in a flood: with another hub, which tells what the machine takes, and with this one."""
        def shaken(key, r, with_whom, count):
            line = [f"{BIN}/mcpload", "shakes", "--url", with_whom.url, "--count", str(count), "--concurrency", "200", "--seconds", str(self.o.seconds + 1)]
            others = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
            time.sleep(0.3)
            self.call(key, r, "call", "--concurrency", 4, "--sessions", 4)
            self.take(f"{key}:shakes", json.loads(others.communicate(timeout=60)[0]), rate="per_s")

        def work(r):
            self.call("calm", r, "call", "--concurrency", 4, "--sessions", 4)
            elsewhere = Running({**r.c, "name": "elsewhere"}, 1)
            try:
                elsewhere.start()
                shaken("elsewhere", r, elsewhere, count)
                shaken("flood elsewhere", r, elsewhere, 50 * count)
            finally:
                elsewhere.stop()
            shaken("shaken", r, r, count)
            shaken("flooded", r, r, 50 * count)
        return work

    def rest(self, n):
        def work(r):
            self.put(f"start:{n}", r.started_ms)
            self.put(f"rest:{n}", r.rest()["own_mb"])
            self.call(f"many:{n}", r, "call", "--concurrency", 16, "--sessions", 16)
        return work

    def endurance(self, n, leave):
        def work(r):
            before = r.rest()["own_mb"]
            args = r.args("--concurrency", 50, "--requests", n, "--seconds", 600, "--leave", int(leave))
            self.take(f"churned:{leave}", load("churn", *args, limit=700), n="requests")
            self.put(f"grown:{leave}", r.rest()["own_mb"] - before)
            self.put(f"after:{leave}", r.rest()["own_mb"])
        return work

    def measure(self):
        o = self.o
        many = (1, 10, 30) if o.short else (1, 100, 1000)
        streams = (50, 100) if o.short else (500, 10000)
        churned = 500 if o.short else 200_000
        peer = os.path.exists(f"{PEERS}/cargo/bin/mcp-proxy")
        secret = self.secure()
        steps = []
        for _ in range(o.reps):
            steps += [
                ("pipe", PIPE, self.calls("pipe"), 1), ("hub", hub(), self.calls("hub"), 1),
                ("pipe", PIPE, self.loads("pipe"), 1), ("hub", hub(), self.hub_loads, 1),
                ("modern", hub(each='isolation = "shared"\nargs = ["--era", "modern"]'), self.c16("modern", "stateless"), 1),
                ("session", hub(each='isolation = "session"'), self.c16("session"), 1),
                ("pipes", PIPES, self.c16("pipes"), 1),
                ("secure", secret, self.c16("secure"), 1),
            ]
            if peer:
                steps += [("peer", PROXY_RS, lambda r: (self.calls("peer")(r), self.churn("peer")(r)), 1)]
            steps += [(f"start {n}", hub(), self.rest(n), n) for n in many]
            steps += [("handshakes", secret, self.beside_handshakes(100 if o.short else 1000), 1)]
            steps += [("streams", hub(head=LIMITS), self.beside_streams(streams[1]), 1)]
        steps += [(f"sessions {n}", hub(head=LIMITS), self.hold(n), 1) for n in streams]
        steps += [(f"churn {leave}", hub(), self.endurance(churned, leave), 1) for leave in (False, True)]
        for name, contender, work, n in steps:
            if o.only and o.only not in name:
                continue
            begun = time.monotonic()
            self.run(contender, work, n)
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        return many, streams, churned

    def secure(self):
        """All that costs something, on."""
        cert, key = OUT / "bench.crt", OUT / "bench.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
                       check=True, capture_output=True)
        head = (f'tls = {{ cert = "{cert}", key = "{key}" }}\n[hub.auth]\ntokens = [{{ name = "bench", secret = "bench-bench-bench-bench-bench-bench" }}]\n'
                f'[hub.log]\naudit = {{ path = "{OUT}/audit.jsonl" }}\n')
        return hub("secure", head, scheme="https", header="Authorization: Bearer bench-bench-bench-bench-bench-bench")

    def rows(self, many, streams, churned):
        r, g = self.over, self.get
        per_upstream = None
        if g(f"rest:{many[1]}") and g("rest:1"):
            per_upstream = (g(f"rest:{many[1]}") - g("rest:1")) * 1024 / (many[1] - 1)
        of_pipe = r("hub:progress.cpu", "pipe:16.cpu")
        yield "own CPU per call, c=16, over a bare pipe", r("hub:16.cpu", "pipe:16.cpu"), "<=", 1.3, 1.0
        yield "own CPU per call, c=64, over a bare pipe", r("hub:64.cpu", "pipe:64.cpu"), "<=", 1.3, 1.0
        yield "own CPU per call, c=1, over a bare pipe", r("hub:1.cpu", "pipe:1.cpu"), "<=", 1.1, 0.75
        for c in (16, 64):
            yield f"calls a second, c={c}, over a bare pipe", r(f"hub:{c}.rps", f"pipe:{c}.rps"), ">=", 0.8, 1.0
            yield f"calls a second, c={c}, over mcp-proxy (crates.io)", r(f"hub:{c}.rps", f"peer:{c}.rps"), ">=", 2.0, None
        yield "99th percentile, c=64, over a bare pipe", r("hub:64.p99", "pipe:64.p99"), "<=", 1.3, 1.0
        yield "stateless calls on an older child, over own session calls", r("hub:stateless.cpu", "hub:16.cpu"), "<=", 1.3, 1.05
        yield "stateless calls on a newer child, over own session calls", r("modern.cpu", "hub:16.cpu"), "<=", 1.3, 1.05
        yield "calls over HTTP+SSE, over own session calls", r("hub:sse.cpu", "hub:16.cpu"), "<=", 2.5, 2.0
        yield "a process for each of 16 sessions, over one shared", r("session.cpu", "hub:16.cpu"), "<=", 1.2, 1.05
        yield "the same of a bare pipe", r("pipes.cpu", "pipe:16.cpu"), "", None, None
        yield "10 progress notifications and a result, us where a pipe's echo is 15", of_pipe and of_pipe * 15, "<=", 60, 45
        yield "1 MiB results, MB/s over a bare pipe", r("hub:payload.mbs", "pipe:payload.mbs"), ">=", 1.0, 1.5
        yield "1 MiB results, own CPU over a bare pipe", r("hub:payload.cpu", "pipe:payload.cpu"), "<=", 0.7, None
        yield "open, call, close, over mcp-proxy (crates.io)", r("hub:churn.rps", "peer:churn.rps"), ">=", 0.7, 1.0
        for n in streams:
            yield f"resident KB per session with its stream, {n}", g(f"sessions:{n}.kb"), "<=", 20, 14
        yield "resident MB at rest, one upstream", g("rest:1"), "<=", 10, 6
        yield f"resident KB per further idle upstream, {many[1]}", per_upstream, "<=", 50, 25
        for n, most, stretch in zip(many, (25, 50, 200), (10, 20, 100)):
            yield f"ms from start to first answer, {n} upstreams", g(f"start:{n}"), "<=", most, stretch
        yield f"own CPU per call, {many[2]} upstreams over 1", r(f"many:{many[2]}.cpu", "many:1.cpu"), "<=", 1.05, 1.02
        yield f"own CPU per call, {streams[1]} idle streams over none", r("crowded.cpu", "lonely.cpu"), "<=", 1.1, 1.02
        yield "TLS, HTTP/2, token and audit, over all off", r("secure.cpu", "hub:16.cpu"), "<=", 1.6, 1.4
        yield "handshakes a second beside the calls of the next row", g("shaken:shakes.rate"), "", None, None
        yield "99th percentile of calls beside handshakes, over none", r("shaken.p99", "calm.p99"), "", None, None
        yield "the same, beside as many with another hub", r("elsewhere.p99", "calm.p99"), "", None, None
        yield "handshakes a second in a flood, 200 at once", g("flooded:shakes.rate"), "", None, None
        yield "99th percentile of calls beside the flood, over none", r("flooded.p99", "calm.p99"), "", None, None
        yield "the same, beside a flood at another hub", r("flood elsewhere.p99", "calm.p99"), "", None, None
        for leave, how in ((False, "deleted"), (True, "left")):
            yield f"resident MB after {churned} sessions that were {how}", g(f"after:{leave}"), "<=", 64, None


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {"cores": os.cpu_count(), "cpu": model, "kernel": platform.release()}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2.0, help="of each load run")
    p.add_argument("--only", help="steps with this in their name")
    p.add_argument("--short", action="store_true", help="small counts: does it work?")
    p.add_argument("--json", help="where the figures go")
    o = p.parse_args()
    if o.short:
        o.reps, o.seconds = 1, 0.3
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    bench = Bench(o)
    counts = bench.measure()
    rows = [dict(what=what, value=value, target=target, sign=sign, stretch=stretch) for what, value, sign, target, stretch in bench.rows(*counts)]
    print("| load | measured | target | |\n|---|---|---|---|")
    for row in rows:
        value, good = row["value"], None
        if value is not None and row["target"] is not None:
            good = value <= row["target"] if row["sign"] == "<=" else value >= row["target"]
        row["good"] = good
        shown = "not measured" if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
        print(f"| {row['what']} | {shown} | {row['sign']} {row['target'] or ''} | {'' if good is None else 'yes' if good else 'no'} |")
    if o.json:
        with open(o.json, "w") as out:
            json.dump({"machine": machine(), "reps": o.reps, "seconds": o.seconds, "targets": rows, "samples": bench.samples}, out, indent=1)
    # A figure that cannot be had is a fault, of the hub or of this; what it says is another matter.
    failed = bench.errors + [f"{key}: no call succeeded" for key, values in bench.samples.items() if key.endswith(".rps") and not any(values)]
    if not o.only:
        failed += [f"{row['what']}: not measured" for row in rows if row["value"] is None and "mcp-proxy" not in row["what"]]
    sys.exit("\n".join(failed) or 0)


main()
