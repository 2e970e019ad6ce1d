//! What is asked of a server, and how that is done: the one library call behind every verb.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    arguments,
    dial::{self, Opened},
    lists, plain,
    raw::Raw,
    schema::Parameters,
    server::{List, Server},
    show,
    stop::{INTERRUPTED, Stop, TOOL_FAILED},
    talk::{Talk, print, print_json, say},
    target::Target,
    words,
};
use crate::{
    bridge::{Profile, Speaks},
    cli::{OK, USAGE},
    config::nearest,
    wire::{Revision, object::Object},
};

/// One question to one server.
#[derive(Debug)]
pub enum Wish {
    Tools,
    Resources,
    Prompts,
    /// `arguments`: words as a person types them.
    Call {
        tool: String,
        arguments: Vec<String>,
    },
    Read {
        uri: String,
    },
    Prompt {
        name: String,
        arguments: Vec<String>,
    },
    Raw(Raw),
    Ping,
    /// Nothing but the greeting.
    Greet,
}

impl Wish {
    /// A call in one string: the tool, then a JSON object or words, quotes respected.
    pub fn call_of_line(line: &str) -> Result<Wish, Stop> {
        let line = line.trim();
        let (tool, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if tool.is_empty() {
            return Err(Stop::usage("a tool is needed, as in 'echo text=hello'"));
        }
        let rest = rest.trim();
        let arguments = match rest.starts_with('{') {
            true => vec![rest.to_owned()],
            false => words::split(rest).map_err(|quote| Stop::usage(format!("a {quote} is not closed in: {line}")))?,
        };
        Ok(Wish::Call { tool: tool.to_owned(), arguments })
    }
}

/// Asks, prints, and answers with the exit code. What was opened is closed before it returns.
pub async fn once(target: &Target, talk: &Talk, wish: Wish) -> u8 {
    let opened = Opened::default();
    let outcome = tokio::select! {
        biased;
        () = interrupted() => Err(Stop::new(INTERRUPTED, "interrupted")),
        outcome = fulfil(target, talk, wish, &opened) => outcome,
    };
    talk.done();
    let code = match outcome {
        Ok(code) => code,
        Err(stop) if stop.text.is_empty() => stop.code,
        // Wrong usage is ours to explain, all else the server's.
        Err(stop) if stop.code == USAGE => {
            say(&format!("hubward: {}", plain::text(&stop.text)));
            stop.code
        }
        Err(stop) => {
            say(&format!("hubward: {}: {}", plain::line(&target.shown), plain::text(&stop.text)));
            stop.code
        }
    };
    opened.close().await;
    code
}

async fn fulfil(target: &Target, talk: &Talk, wish: Wish, opened: &Opened) -> Result<u8, Stop> {
    if let Wish::Raw(raw) = &wish
        && raw.is_greeting()
    {
        let connection = dial::silently(target, &talk.listener(), opened)?;
        let profile = Profile::new(Speaks::Legacy(Revision::LATEST), Value::Null);
        let server = Server::ungreeted(connection, profile, target.config.start_timeout, talk);
        return raw.send(&server, talk).await;
    }
    let server = Server::reach(target, talk, opened).await?;
    match wish {
        Wish::Tools => {
            let list = server.list("tools/list", "tools", "tools").await?;
            print_list(talk, &list.json, || lists::tools(&list.items));
        }
        Wish::Resources => {
            let list = server.list("resources/list", "resources", "resources").await?;
            let templates = server.list("resources/templates/list", "resources", "resourceTemplates").await?;
            let json = with_member(&list.json, "resourceTemplates", &templates.items);
            print_list(talk, &json, || lists::resources(&list.items, &templates.items));
        }
        Wish::Prompts => {
            let list = server.list("prompts/list", "prompts", "prompts").await?;
            print_list(talk, &list.json, || lists::prompts(&list.items));
        }
        Wish::Call { tool, arguments } => return call(&server, talk, &tool, &arguments).await,
        Wish::Read { uri } => {
            let result = server.result("resources/read", &json!({ "uri": uri }).to_string()).await?;
            print_result(talk, &result, &uri, |talk| show::resource(&result, &uri, talk))?;
        }
        Wish::Prompt { name, arguments } => prompt(&server, talk, &name, &arguments).await?,
        Wish::Raw(raw) => return raw.send(&server, talk).await,
        Wish::Ping => ping(&server, talk, opened).await?,
        Wish::Greet => {}
    }
    Ok(OK)
}

async fn call(server: &Server<'_>, talk: &Talk, tool: &str, words: &[String]) -> Result<u8, Stop> {
    let list = server.list("tools/list", "tools", "tools").await?;
    let entry = find(&list, tool, "tool")?;
    let json = made(words, &lists::tool_parameters(entry), tool)?;
    let params = format!(r#"{{"name":{},"arguments":{json}}}"#, Value::from(tool));
    let result = server.result("tools/call", &params).await?;
    print_result(talk, &result, tool, |talk| show::tool(&result, tool, talk))?;
    let object = Object::read(&result);
    let failed = object.and_then(|object| object.get("isError").map(|flag| flag.get() == "true")).unwrap_or(false);
    match failed {
        true => Err(Stop::new(TOOL_FAILED, format!("the tool {tool} says that it failed"))),
        false => Ok(OK),
    }
}

async fn prompt(server: &Server<'_>, talk: &Talk, name: &str, words: &[String]) -> Result<(), Stop> {
    let list = server.list("prompts/list", "prompts", "prompts").await?;
    let entry = find(&list, name, "prompt")?;
    let json = made(words, &lists::prompt_parameters(entry), name)?;
    let params = format!(r#"{{"name":{},"arguments":{json}}}"#, Value::from(name));
    let result = server.result("prompts/get", &params).await?;
    print_result(talk, &result, name, |talk| show::prompt(&result, name, talk))
}

/// The name and the version of a server that answers.
async fn ping(server: &Server<'_>, talk: &Talk, opened: &Opened) -> Result<(), Stop> {
    let began = Instant::now();
    server.sign_of_life().await?;
    let (ms, info) = (began.elapsed().as_millis() as u64, &server.profile.result["serverInfo"]);
    let revision = server.profile.speaks.as_str();
    if talk.json {
        let told = json!({ "serverInfo": info, "protocolVersion": revision, "transport": opened.transport(), "milliseconds": ms });
        print_json(&told.to_string());
        return Ok(());
    }
    let word = |name: &str| plain::line(info[name].as_str().unwrap_or("unknown"));
    print(&format!("{} {} (revision {revision}) answered in {ms} ms", word("name"), word("version")));
    Ok(())
}

/// The entry of a name, or what there is instead.
fn find<'l>(list: &'l List, name: &str, what: &str) -> Result<&'l str, Stop> {
    let named = |item: &String| Object::read(item).and_then(|object| object.string("name"));
    if let Some(item) = list.items.iter().find(|item| named(item).as_deref() == Some(name)) {
        return Ok(item);
    }
    let names: Vec<String> = list.items.iter().filter_map(named).collect();
    let meant = nearest(name, names.iter().map(String::as_str));
    let meant = meant.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let all = if names.is_empty() { format!("it has no {what}s") } else { format!("it has {}", names.join(", ")) };
    Err(Stop::failed(format!("there is no {what} `{name}`{meant}\n{all}")))
}

fn made(words: &[String], parameters: &Parameters, whose: &str) -> Result<String, Stop> {
    let made = arguments::object(words, parameters, &format!("`{whose}`")).map_err(Stop::usage)?;
    made.doubts.iter().for_each(|doubt| say(&format!("hubward: {}; sent all the same", plain::text(doubt))));
    Ok(made.json)
}

fn print_list(talk: &Talk, json: &str, shown: impl FnOnce() -> String) {
    match talk.json {
        true => print_json(json),
        false => print(&shown()),
    }
}

fn print_result(
    talk: &Talk,
    result: &str,
    hint: &str,
    shown: impl FnOnce(&Talk) -> Result<String, Stop>,
) -> Result<(), Stop> {
    if talk.json {
        print_json(result);
        return show::saved(result, hint, talk);
    }
    let shown = shown(talk)?;
    if !shown.is_empty() {
        print(&shown);
    }
    Ok(())
}

/// An object with one more list.
fn with_member(json: &str, name: &str, items: &[String]) -> String {
    let list = format!("[{}]", items.join(","));
    Object::read(json).map(|object| object.edit().set(name, list).apply()).unwrap_or_else(|| json.to_owned())
}

/// Resolves when somebody wants us to end.
async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => if interrupted.is_ok() { return },
            terminated = terminate.recv() => if terminated.is_some() { return },
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_14_and_s3_24_a_call_in_one_string() {
        // Better: quotes are heeded, as they were always said to be.
        let check = |line: &str, expected: &[&str]| {
            let Ok(Wish::Call { tool, arguments }) = Wish::call_of_line(line) else { panic!("{line}") };
            assert_eq!([&[tool][..], &arguments].concat(), expected, "{line}");
        };
        check("tick", &["tick"]);
        check("  echo text=\"two words\" n=1 ", &["echo", "text=two words", "n=1"]);
        check("echo hello there", &["echo", "hello", "there"]);
        check(r#"echo  {"text": "it's"} "#, &["echo", r#"{"text": "it's"}"#]);
        for line in ["", "  ", "echo text=\"open"] {
            assert_eq!(Wish::call_of_line(line).expect_err(line).code, USAGE, "{line}");
        }
    }
}
