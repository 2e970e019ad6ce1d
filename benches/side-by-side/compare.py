#!/usr/bin/env python3
"""Measures every contender side by side in one run, and prints tables.

Repetitions go round all the contenders, so that whatever else the machine does
meanwhile falls on each alike; the tables hold medians. See README.md.
"""
import argparse
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = os.environ.get("PEERS_DIR", "/tmp/mcp-peers")
BIN = os.environ.get("BENCH_BIN", str(HERE / "target/release"))
OUT = Path(os.environ.get("BENCH_OUT", "/tmp/mcp-bench"))
LOAD = f"{BIN}/mcpload"


def fill(text, words):
    for key, value in words.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tree(root):
    """The ids of a process and its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat[stat.rindex(")") + 2:].split()[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def load(mode, *args, limit=30, command=()):
    """One run of mcpload; its line, or what went wrong."""
    line = [LOAD, mode, *map(str, args)] + (["--", *command] if command else [])
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"mode": mode, "errors": 1, "first_error": f"no end in {limit} s"}
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"mode": mode, "errors": 1, "first_error": (done.stderr or done.stdout)[-300:]}


class Running:
    """A contender that has been started, with `n` upstreams."""

    def __init__(self, contender, n=1):
        self.c = contender
        names = [f"up{i}" for i in range(n)]
        words = {"port": free_port(), "bin": BIN, "peers": PEERS, "fixture": f"{BIN}/fixture-stdio", "name": names[-1]}
        config = contender.get("config")
        if config:
            join = config.get("join", "")
            text = config.get("head", "") + join.join(fill(config["each"], {"name": name}) for name in names) + config.get("tail", "")
            path = OUT / f"{contender['name'].split()[0]}-{n}.{config['ext']}"
            path.write_text(fill(text, words))
            words["config"] = path
        self.words = words
        self.env = {**os.environ, **contender.get("env", {})}
        # A namespace before the tool's name, where there is one.
        prefix = contender.get("prefix") if n > 1 or contender.get("always_prefix") else None
        self.prefix = fill(prefix, words) if prefix else ""
        self.process = None

    def start(self):
        self.url = fill(self.c["url"], self.words)
        watch = subprocess.Popen([LOAD, "ready", "--url", self.url, "--timeout", "60"] + (["--header", self.c["header"]] if "header" in self.c else []), stdout=subprocess.PIPE, text=True)
        time.sleep(0.05)
        log = open(OUT / f"{self.c['name']}.log", "ab")
        begun = time.monotonic_ns()
        self.process = subprocess.Popen(
            shlex.split(fill(self.c["cmd"], self.words)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, env=self.env, cwd=OUT,
        )
        log.close()
        try:
            answer = json.loads(watch.communicate(timeout=90)[0])
        except (subprocess.TimeoutExpired, ValueError):
            watch.kill()
            answer = {"first_error": "not ready"}
        if "ready_ns" not in answer:
            raise RuntimeError(answer.get("first_error"))
        return {"mode": "start", "start_ms": (answer["ready_ns"] - begun) / 1e6, "errors": 0}

    def args(self, *more):
        tool = ["--tool", self.prefix + "echo"] if self.prefix else []
        header = ["--header", self.c["header"]] if "header" in self.c else []
        return ["--url", self.url, "--pid", self.process.pid, *header, *tool, *more]

    def rest(self):
        """Resident memory a while after start, with no session open."""
        time.sleep(1.0)
        own = tree_kb = pss = 0
        pids = tree(self.process.pid)
        for pid in pids:
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            kb = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
            tree_kb += kb["Rss"]
            pss += kb["Pss"]
            own += kb["Rss"] if pid == self.process.pid else 0
        return {"mode": "rest", "own_mb": own / 1024, "tree_mb": tree_kb / 1024, "tree_pss_mb": pss / 1024, "processes": len(pids), "errors": 0}

    def stop(self):
        if self.process is None:
            return
        pids = tree(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        for pid in pids[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def wanted(cases, name):
    return cases is None or any(c == name or c.split(":")[0] == name for c in cases)


def run_one(contender, cases, seconds, put):
    """All the cases of one contender, in one repetition."""
    if "stdio" in contender:
        r = Running(contender)
        for c in (1, 16, 64):
            if wanted(cases, "call"):
                # mcpload starts it; the environment is this process's own.
                os.environ.update(contender.get("env", {}))
                put({**load("stdio", "--concurrency", c, "--seconds", seconds, command=shlex.split(fill(contender["stdio"], r.words))), "case": f"call:{c}"})
        return
    r = Running(contender)
    try:
        put({**r.start(), "case": "start"})
        put({**r.rest(), "case": "rest"})
        for c in (1, 16, 64):
            if wanted(cases, "call"):
                put({**load("call", *r.args("--concurrency", c, "--sessions", c, "--seconds", seconds)), "case": f"call:{c}"})
        if wanted(cases, "payload"):
            # The tool's name is the mode's own, unless there is a namespace.
            args = r.args("--concurrency", 4, "--sessions", 4, "--size", 1 << 20, "--seconds", seconds)
            if r.prefix:
                args[args.index("--tool") + 1] = r.prefix + "payload"
            put({**load("payload", *args), "case": "payload"})
        if wanted(cases, "progress"):
            args = r.args("--concurrency", 4, "--sessions", 4, "--count", 10, "--seconds", seconds)
            if r.prefix:
                args[args.index("--tool") + 1] = r.prefix + "progress"
            put({**load("progress", *args), "case": "progress"})
        if wanted(cases, "churn"):
            put({**load("churn", *r.args("--concurrency", 4, "--seconds", seconds)), "case": "churn"})
        if wanted(cases, "stateless"):
            put({**load("stateless", *r.args("--concurrency", 16, "--seconds", seconds)), "case": "stateless"})
        if wanted(cases, "sse") and "sse_url" in contender:
            args = r.args("--concurrency", 16, "--sessions", 16, "--seconds", seconds)
            args[1] = fill(contender["sse_url"], r.words)
            put({**load("sse", *args), "case": "sse"})
    finally:
        r.stop()
    for n in (100, 500):
        if wanted(cases, "sessions"):
            r = Running(contender)
            try:
                r.start()
                put({**load("sessions", *r.args("--sessions", n, "--concurrency", 8, "--timeout", 20), limit=60), "case": f"sessions:{n}"})
            finally:
                r.stop()


def run_many(contender, counts, seconds, put):
    for n in counts:
        r = Running(contender, n)
        try:
            put({**r.start(), "case": f"many-start:{n}"})
            put({**r.rest(), "case": f"many-rest:{n}"})
            put({**load("call", *r.args("--concurrency", 16, "--sessions", 16, "--seconds", seconds)), "case": f"many-call:{n}"})
        finally:
            r.stop()


def contenders():
    found = tomllib.loads((HERE / "contenders.toml").read_text())["contender"]
    for extra in os.environ.get("CONTENDERS", "").split(":"):
        if extra:
            found += tomllib.loads(Path(extra).read_text())["contender"]
    if os.environ.get("HUB_CMD"):
        url = os.environ.get("HUB_URL", "http://127.0.0.1:@port@/@name@/mcp")
        hub = {
            "name": os.environ.get("HUB_NAME", "hub"), "note": "HUB_CMD", "cmd": os.environ["HUB_CMD"], "url": url, "many": True,
            "sse_url": os.environ.get("HUB_SSE_URL", url.removesuffix("/mcp") + "/sse"),
            "config": {"ext": "toml", "each": '[upstreams.@name@]\ncommand = "@fixture@"\nisolation = "shared"\n'},
        }
        if os.environ.get("HUB_CONFIG"):  # a TOML file with ext, head, each, join, tail
            hub["config"] = tomllib.loads(Path(os.environ["HUB_CONFIG"]).read_text())
        found.append(hub)
    return found


TABLES = [
    ("tools/call echo, requests per second (median)", [(f"c={c}", f"call:{c}", "rps", "{:,.0f}") for c in (1, 16, 64)]),
    ("tools/call echo, latency ms", [(f"p50 c={c}", f"call:{c}", "p50_ms", "{:.2f}") for c in (1, 16, 64)] + [(f"p99 c={c}", f"call:{c}", "p99_ms", "{:.1f}") for c in (1, 16, 64)]),
    ("CPU microseconds per call: the server itself / its children",
     [(f"own c={c}", f"call:{c}", "server_us_per_req", "{:.1f}") for c in (1, 16, 64)] + [(f"children c={c}", f"call:{c}", "children_us_per_req", "{:.1f}") for c in (1, 16, 64)]),
    ("start and rest", [("first answer ms", "start", "start_ms", "{:,.0f}"), ("own MB", "rest", "own_mb", "{:.1f}"), ("tree MB", "rest", "tree_mb", "{:.1f}"), ("processes", "rest", "processes", "{:.0f}")]),
    ("sessions with an open GET stream", [("open/s (100)", "sessions:100", "opens_per_s", "{:,.0f}"), ("open/s (500)", "sessions:500", "opens_per_s", "{:,.0f}"),
     ("own KB each (100)", "sessions:100", "own_kb_per_session", "{:.1f}"), ("own KB each (500)", "sessions:500", "own_kb_per_session", "{:.1f}"),
     ("tree PSS KB each (500)", "sessions:500", "tree_pss_kb_per_session", "{:.0f}"), ("opened (500)", "sessions:500", "sessions", "{:.0f}"), ("streams (500)", "sessions:500", "streams", "{:.0f}"),
     ("processes after (500)", "sessions:500", "processes_after", "{:.0f}"), ("own CPU us per open (500)", "sessions:500", "server_us_per_open", "{:,.0f}")]),
    ("other loads", [("1 MiB results MB/s", "payload", "mb_per_s", "{:,.0f}"), ("own CPU us per MiB", "payload", "server_us_per_req", "{:,.0f}"),
     ("10 progress + result /s", "progress", "rps", "{:,.0f}"), ("notifications per call", "progress", "notes_per_call", "{:.1f}"), ("its own CPU us", "progress", "server_us_per_req", "{:.0f}"),
     ("open-call-close /s", "churn", "rps", "{:,.0f}"), ("its own CPU us", "churn", "server_us_per_req", "{:,.0f}"),
     ("stateless /s c=16", "stateless", "rps", "{:,.0f}"), ("its own CPU us", "stateless", "server_us_per_req", "{:.1f}"),
     ("legacy SSE /s c=16", "sse", "rps", "{:,.0f}"), ("its own CPU us", "sse", "server_us_per_req", "{:.1f}")]),
    ("many upstreams in one process", [(f"{what} n={n}", f"many-{case}:{n}", key, form) for what, case, key, form in
     [("start ms", "start", "start_ms", "{:,.0f}"), ("own MB", "rest", "own_mb", "{:.1f}"), ("tree PSS MB", "rest", "tree_pss_mb", "{:.0f}"), ("own CPU us c=16", "call", "server_us_per_req", "{:.1f}")] for n in (1, 10, 100)]),
]


def cell(rows, name, case, key, form):
    values = [r[key] for r in rows if r["contender"] == name and r["case"] == case and r.get(key) is not None]
    errors = sum(r.get("errors", 0) for r in rows if r["contender"] == name and r["case"] == case)
    if not values or (key in ("rps", "server_us_per_req", "mb_per_s", "children_us_per_req") and not any(r.get("requests") for r in rows if r["contender"] == name and r["case"] == case)):
        return "none" if values or errors else "-"
    return form.format(statistics.median(values)) + ("!" if errors else "")


def tables(rows):
    names = list(dict.fromkeys(r["contender"] for r in rows))
    for title, columns in TABLES:
        lines = [[name] + [cell(rows, name, case, key, form) for _, case, key, form in columns] for name in names]
        lines = [line for line in lines if set(line[1:]) - {"-"}]
        if lines:
            print(f"\n### {title}\n")
            print("| | " + " | ".join(c[0] for c in columns) + " |")
            print("|---" * (len(columns) + 1) + "|")
            for line in lines:
                print("| " + " | ".join(line) + " |")
    wrong = {(r["contender"], r["case"]): r["first_error"] for r in rows if r.get("first_error")}
    if wrong:
        print("\n`!` marks a cell with errors. What went wrong first:\n")
        for (name, case), what in wrong.items():
            print(f"- {name}, {case}: {what[:200]}")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2.0, help="of each load run")
    p.add_argument("--only", help="contenders, by commas (parts of names)")
    p.add_argument("--cases", help="call,payload,progress,churn,stateless,sse,sessions,many by commas")
    p.add_argument("--many", default="1,10,100", help="numbers of upstreams")
    p.add_argument("--from", dest="rows", help="only print the tables of a rows file")
    o = p.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if o.rows:
        return tables([json.loads(line) for line in open(o.rows)])
    cases = o.cases.split(",") if o.cases else None
    chosen = [c for c in contenders() if not o.only or any(part in c["name"] for part in o.only.split(","))]
    path = OUT / f"rows-{time.strftime('%H%M%S')}.jsonl"
    rows = []
    with open(path, "w") as out:
        for rep in range(o.reps):
            for c in chosen:
                def put(row):
                    row.update(contender=c["name"], rep=rep)
                    rows.append(row)
                    print(json.dumps(row), file=out, flush=True)
                begun = time.monotonic()
                try:
                    if cases != ["many"]:
                        run_one(c, cases, o.seconds, put)
                    if c.get("many") and rep == 0 and wanted(cases, "many"):
                        run_many(c, [int(n) for n in o.many.split(",")], o.seconds, put)
                except (RuntimeError, OSError) as e:
                    put({"case": "start", "errors": 1, "first_error": str(e)})
                print(f"rep {rep} {c['name']}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    tables(rows)
    print(f"\nRows: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
