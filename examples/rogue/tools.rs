//! The tools: misbehaviour that begins when it is called.
//!
//! One table names them all. A tool runs on the reader's thread, so that calls take effect in the
//! order of their lines; one that takes time moves to a thread of its own and obeys
//! `notifications/cancelled` unless it says otherwise.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::reach;
use crate::server::{Call, sleep_forever};

/// Name, arguments as `name:type`, description, deed.
type Tool = (&'static str, &'static str, &'static str, fn(Call));

#[rustfmt::skip]
const TOOLS: &[Tool] = &[
    // What echo has.
    ("echo", "text:string", "Returns its text.", |call| call.answer(call.text("text"))),
    ("pid", "", "Returns the id of this process.", |call| call.answer(process::id())),
    ("who", "", "Returns the params of initialize.", |call| { let client = call.server.memory().client.clone(); call.answer(client) }),
    // The process ends, or all but ends.
    ("crash", "code:integer", "Exits at once, in the middle of the call.", |call| process::exit(call.number("code") as i32)),
    ("kill_self", "signal:integer", "Sends itself a signal, SIGKILL unless told otherwise.", kill_self),
    ("exit_after", "ms:integer code:integer", "Answers, then exits by itself.", exit_after),
    ("hang", "", "Never answers, but reads on.", |call| call.spawn(|call| call.wait_for_cancel())),
    ("freeze", "", "Never answers and never reads again.", |_| sleep_forever()),
    ("close_stdout", "", "Closes stdout without an answer, reads on. The process forgets all else.", |_| start_over(Some(Stdio::null()), None)),
    ("close_stdin", "", "Answers, closes stdin, lives on. The process forgets all else.", |call| { call.answer("closed"); start_over(None, Some(Stdio::null())) }),
    // Time.
    ("sleep", "ms:integer", "Answers after so long, or never when cancelled.", |call| call.spawn(|call| if call.sleep(call.number("ms")) { call.answer("slept") })),
    ("sleep_stubborn", "ms:integer", "Answers after so long, cancelled or not.", |call| call.spawn(|call| { thread::sleep(Duration::from_millis(call.number("ms"))); call.answer("slept") })),
    // Size and shape of what is written.
    ("big", "bytes:integer", "A text of so many bytes.", |call| call.answer("x".repeat(call.number("bytes") as usize))),
    ("huge_line", "bytes:integer id_last:boolean", "A response line of exactly so many bytes, its end not counted.", huge_line),
    ("partial", "", "Writes half a line, then neither writes nor reads again.", |call| call.server.partial(format!(r#"{{"jsonrpc":"2.0","id":{},"res"#, call.id).as_bytes())),
    ("bad_utf8", "", "A line that is not UTF-8, then the answer.", |call| { call.server.line(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/\xff\xfe\"}"); call.answer("ok") }),
    ("twice", "", "Answers twice.", |call| { call.answer("first"); call.answer("second") }),
    ("wrong_id", "", "Answers an id nobody used (987654321), then the right one.", |call| { call.answer_with(&json!(987_654_321), text("wrong")); call.answer("right") }),
    ("string_id", "", "Answers with the id as a string, and 50 ms later with the right one.", string_id),
    ("batch", "", "Answers with an array: a notification and the response.", batch),
    ("raw", "line:string", "Writes the text as a line, then answers.", |call| { call.server.line(call.text("line").as_bytes()); call.answer("ok") }),
    ("unknown_fields", "", "UNKNOWN_FIELDS as the result, to the byte.", |call| call.answer_line(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{UNKNOWN_FIELDS}}}"#, call.id))),
    ("result", "json:string", "The JSON as its result.", |call| call.answer_line(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#, call.id, call.text("json")))),
    ("error", "json:string", "The JSON as its error.", |call| call.answer_line(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{}}}"#, call.id, call.text("json")))),
    ("stderr", "bytes:integer", "Writes lines of so many bytes in all to stderr.", |call| { flood_stderr(call.number("bytes") as usize); call.answer("ok") }),
    ("stderr_control", "", "Colours, NUL, CR and bad UTF-8 on stderr.", |call| { let _ = io::stderr().write_all(b"\x1b[31mred\x1b[0m \x1b]0;title\x07 nul\0 one\rtwo \xff\n"); call.answer("ok") }),
    // Notifications.
    ("progress", "count:integer ms:integer", "So many progress notifications, so far apart; returns count.", progress),
    ("progress_unknown_token", "", "Progress for a token nobody gave.", |call| { call.server.notify("notifications/progress", json!({"progressToken": "nobody's", "progress": 1})); call.answer("ok") }),
    ("log", "level:string text:string", "A log message, whatever level was set.", |call| { call.server.notify("notifications/message", json!({"level": call.text("level"), "logger": "rogue", "data": call.text("text")})); call.answer("ok") }),
    ("list_changed", "count:integer", "So many notifications/tools/list_changed at once.", |call| { (0..call.number("count")).for_each(|_| tools_changed(&call)); call.answer("ok") }),
    ("updated", "uri:string count:integer", "So many notifications/resources/updated, one unless told otherwise, subscribed or not.", updated),
    ("add_tool", "name:string", "One more tool in the list, which echoes; says so.", |call| { let name = call.text("name").to_owned(); call.server.memory().added.push(name); tools_changed(&call); call.answer("ok") }),
    // Requests to the client; the text is {"result": …} or {"error": …}.
    ("ask_elicitation", "message:string", "elicitation/create in mid call.", |call| ask(call, "elicitation/create", elicitation)),
    ("ask_sampling", "prompt:string", "sampling/createMessage in mid call.", |call| ask(call, "sampling/createMessage", sampling)),
    ("ask_roots", "", "roots/list in mid call.", |call| ask(call, "roots/list", |_| json!({}))),
    ("ask_form", "json:string", "elicitation/create with these params.", |call| ask(call, "elicitation/create", params)),
    ("ask_model", "json:string", "sampling/createMessage with these params.", |call| ask(call, "sampling/createMessage", params)),
    ("ask_unprompted", "", "Answers, and 50 ms later sends elicitation/create; see last_answer.", ask_unprompted),
    ("last_answer", "", "What came back for ask_unprompted, or null.", |call| { let last = call.server.memory().last_answer.clone(); call.answer(last) }),
    // Processes.
    ("grandchild", "ignore_term:boolean hold_pipes:boolean", "Starts sleep 1000 in our process group; returns its id. With hold_pipes it keeps our stdout and stderr.", grandchild),
    ("daemon", "", "Starts sleep 1000 in a session of its own; returns its id.", daemon),
    ("orphans", "count:integer", "Leaves so many dead processes to whoever is the parent of orphans.", orphans),
    ("env", "", "The environment as a JSON object.", |call| call.answer(env::vars_os().map(|(name, value)| (lossy(&name), json!(lossy(&value)))).collect::<Value>())),
    ("fds", "", "The open descriptors as a JSON object of number and target.", fds),
    // What is not its own. The answer begins with "error" where it was kept from it.
    ("read_file", "path:string", "The content of a file.", reach::read_file),
    ("write_file", "path:string", "Adds a line to a file.", reach::write_file),
    ("empty_file", "path:string", "Truncates a file by its path.", reach::empty_file),
    ("connect", "by:string to:string", "Reaches out by tcp, udp, unix; makes a pair or a ring.", reach::connect),
    ("fork", "count:integer", "Starts so many processes at once; returns how many it got.", |call| call.spawn(reach::fork)),
    ("allocate", "mib:integer", "Takes and uses so much memory; returns how much it got.", |call| call.spawn(reach::allocate)),
    ("map", "mib:integer kind:string", "Maps private, shared or growing memory.", reach::map),
    // What the rogue remembers, as JSON.
    ("state", "set:string", "A value of this process; set changes it first.", state),
    ("levels", "", "The levels of every logging/setLevel.", |call| { let levels = json!(call.server.memory().levels); call.answer(levels) }),
    ("subscriptions", "", "Every subscribe and unsubscribe with its URI, in order.", |call| { let all = json!(call.server.memory().subscriptions); call.answer(all) }),
    ("received_cancels", "", "The requestId of every cancellation, in order.", |call| { let cancels = json!(call.server.memory().cancels); call.answer(cancels) }),
    ("inflight", "", "How many other calls are neither answered nor cancelled.", |call| { let others = call.server.memory().in_flight.len() - 1; call.answer(others) }),
    ("roots_changed", "", "How often the roots were said to have changed.", |call| { let count = call.server.memory().roots_changed; call.answer(count) }),
];

/// Everything that a parser which builds a tree would lose: order, spaces, escapes, a repeated
/// key, numbers beyond `f64`, and members no revision defines.
pub const UNKNOWN_FIELDS: &str = r#"{ "zeta":1,"content":[{"text":"caf\u00e9 \ud83d\ude00 \/","type":"text","x-colour":"red","annotations":{"audience":["nobody"],"x":null}},{"type":"x-unheard-of","payload":{"deep":[[[]]]}}],"_meta":{"example.com/trace":"a\tb","big":123456789012345678901234567890,"exact":1.10,"exp":1E+2,"minus":-0},"alpha":{},"x":1,"x":2,"isError":false }"#;

/// The answer to `tools/list`.
pub fn list(added: &[String]) -> Value {
    let known = TOOLS.iter().map(|(name, arguments, text, _)| tool(name, arguments, text));
    let added = added.iter().map(|name| tool(name, "text:string", "Added while running."));
    json!({"tools": known.chain(added).collect::<Vec<_>>()})
}

fn tool(name: &str, arguments: &str, description: &str) -> Value {
    let properties: Map<String, Value> = arguments
        .split_whitespace()
        .filter_map(|argument| argument.split_once(':'))
        .map(|(name, kind)| (name.to_owned(), json!({ "type": kind })))
        .collect();
    let schema = json!({"type": "object", "properties": properties});
    json!({"name": name, "description": description, "inputSchema": schema})
}

/// The answer, if any, to `tools/call`.
pub fn run(call: Call, params: &Value) {
    let name = params["name"].as_str().unwrap_or_default();
    let added = call.server.memory().added.iter().any(|added| added == name);
    match TOOLS.iter().find(|tool| tool.0 == name) {
        Some((.., deed)) => deed(call),
        None if call.server.options.tools.is_some() => call.answer(name),
        None if added => call.answer(call.text("text")),
        None => call.fail(-32602, &format!("no tool {name:?} here")),
    }
}

/// Writes so many bytes in lines of up to 80; also the work of `--stderr-flood`.
pub fn flood_stderr(bytes: usize) {
    let line = [[b'e'; 79].as_slice(), b"\n"].concat();
    let flood: Vec<u8> = line.iter().copied().cycle().take(bytes).collect();
    let _ = io::stderr().write_all(&flood);
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn lossy(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}

fn tools_changed(call: &Call) {
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    call.server.send(&changed);
}

#[cfg(unix)]
fn kill_self(call: Call) {
    use rustix::process::{Signal, getpid, kill_process};
    let signal = i32::try_from(call.number("signal")).ok();
    let signal = signal.and_then(Signal::from_named_raw).unwrap_or(Signal::KILL);
    if let Err(error) = kill_process(getpid(), signal) {
        call.fail(-32603, &error.to_string());
    }
}

#[cfg(not(unix))]
fn kill_self(_: Call) {
    process::abort();
}

fn exit_after(call: Call) {
    call.answer("exiting");
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(call.number("ms")));
        process::exit(call.number("code") as i32);
    });
}

/// Becomes a fresh rogue with other pipes but the same process id: the one way to close our own
/// stdin or stdout without `unsafe`. A rogue without stdin must not take that for its end.
#[cfg(unix)]
fn start_over(stdout: Option<Stdio>, stdin: Option<Stdio>) {
    use std::os::unix::process::CommandExt;
    let mut this = Command::new(env::current_exe().unwrap_or_else(|_| "rogue".into()));
    if stdin.is_some() || env::args().any(|argument| argument == "--ignore-eof") {
        this.arg("--ignore-eof");
    }
    let mut arguments = env::args().skip_while(|argument| argument != "--log");
    this.args(arguments.next()).args(arguments.next());
    this.stdout(stdout.unwrap_or_else(Stdio::inherit));
    this.stdin(stdin.unwrap_or_else(Stdio::inherit));
    eprintln!("rogue: cannot start over: {}", this.exec());
}

#[cfg(not(unix))]
fn start_over(_: Option<Stdio>, _: Option<Stdio>) {
    eprintln!("rogue: cannot start over here");
}

fn huge_line(call: Call) {
    let (head, tail) = if call.flag("id_last") {
        (String::new(), format!(r#","id":{}"#, call.id))
    } else {
        (format!(r#""id":{},"#, call.id), String::new())
    };
    let head = format!(r#"{{"jsonrpc":"2.0",{head}"result":{{"content":[{{"type":"text","text":""#);
    let tail = format!(r#""}}]}}{tail}}}"#);
    let fill = (call.number("bytes") as usize).saturating_sub(head.len() + tail.len());
    call.answer_line(&[head, "x".repeat(fill), tail].concat());
}

fn string_id(call: Call) {
    call.answer_with(&json!(call.id.to_string()), text("string"));
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        call.answer("right");
    });
}

fn batch(call: Call) {
    let data = json!({"level": "warning", "logger": "rogue", "data": "from a batch"});
    let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": data});
    let response = json!({"jsonrpc": "2.0", "id": call.id, "result": text("batched")});
    call.answer_line(&json!([log, response]).to_string());
}

fn progress(call: Call) {
    call.spawn(|call| {
        let count = call.number("count");
        for step in 1..=count {
            if !call.sleep(call.number("ms")) {
                return;
            }
            if !call.token.is_null() {
                let progress = json!({"progressToken": call.token, "progress": step, "total": count});
                call.server.notify("notifications/progress", progress);
            }
        }
        call.answer(count);
    });
}

fn updated(call: Call) {
    let told = move |call: &Call| {
        let count = call.number("count").max(1);
        let uri = json!({"uri": call.text("uri")});
        (0..count).for_each(|_| call.server.notify("notifications/resources/updated", uri.clone()));
        call.answer("ok");
    };
    // Many take their time.
    match call.number("count") {
        0 => told(&call),
        _ => call.spawn(move |call| told(&call)),
    }
}

fn elicitation(call: &Call) -> Value {
    let name = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    json!({"message": call.text("message"), "requestedSchema": name})
}

fn params(call: &Call) -> Value {
    serde_json::from_str(call.text("json")).unwrap_or_default()
}

fn sampling(call: &Call) -> Value {
    let content = json!({"type": "text", "text": call.text("prompt")});
    json!({"messages": [{"role": "user", "content": content}], "maxTokens": 100})
}

fn ask(call: Call, method: &'static str, params: fn(&Call) -> Value) {
    call.spawn(move |call| {
        if let Some(answer) = call.server.ask(Some(&call.id), method, params(&call)) {
            call.answer(answer);
        }
    });
}

fn ask_unprompted(call: Call) {
    call.answer("asking soon");
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        let params = elicitation(&call);
        if let Some(answer) = call.server.ask(None, "elicitation/create", params) {
            call.server.memory().last_answer = answer;
        }
    });
}

fn grandchild(call: Call) {
    let mut shell = Command::new("/bin/sh");
    let trap = if call.flag("ignore_term") { r#"trap "" TERM; "# } else { "" };
    shell.args(["-c", &format!("{trap}exec sleep 1000")]);
    shell.stdin(Stdio::null());
    if !call.flag("hold_pipes") {
        shell.stdout(Stdio::null()).stderr(Stdio::null());
    }
    match shell.spawn() {
        Ok(mut child) => {
            call.answer(child.id());
            // A killed grandchild shall be gone, not a zombie of ours.
            thread::spawn(move || child.wait());
        }
        Err(error) => call.fail(-32603, &error.to_string()),
    }
}

fn daemon(call: Call) {
    // In the background of a shell without job control setsid does not fork: $! is the sleeper.
    let script = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!";
    match Command::new("/bin/sh").args(["-c", script]).output() {
        Ok(done) => call.answer(String::from_utf8_lossy(&done.stdout).trim()),
        Err(error) => call.fail(-32603, &error.to_string()),
    }
}

fn orphans(call: Call) {
    // A shell that ends at once leaves what it started behind; that ends a moment later.
    let shells = (0..call.number("count")).map(|_| {
        Command::new("/bin/sh").args(["-c", "sleep 0.05 &"]).stdin(Stdio::null()).stdout(Stdio::null()).status()
    });
    match shells.collect::<io::Result<Vec<_>>>() {
        Ok(_) => call.answer("ok"),
        Err(error) => call.fail(-32603, &error.to_string()),
    }
}

fn fds(call: Call) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return call.fail(-32603, "there is no /proc/self/fd here");
    };
    // The descriptor of the listing itself has no target any more once the listing is over.
    let numbers: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    let open = numbers.iter().filter_map(|path| {
        let target = fs::read_link(path).ok()?;
        Some((lossy(path.file_name()?), json!(lossy(target.as_os_str()))))
    });
    call.answer(open.collect::<Value>());
}

fn state(call: Call) {
    let set = &call.arguments["set"];
    if !set.is_null() {
        call.server.memory().state = set.clone();
    }
    let state = call.server.memory().state.clone();
    call.answer(state);
}
