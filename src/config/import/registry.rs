//! `server.json` of the MCP registry: how a server may be had, of which the first way that works here is taken.

use super::client::Client;
use super::reference::{escaped, variable_of};
use super::tree::{Table, Tree};
use super::{Imported, Server, secret};
use crate::config::edit::NewUpstream;

/// Reads it, if it is one: alone, as the registry answers with it, or a list of these.
pub(super) fn read(root: &Tree, found: &mut Imported) -> bool {
    let listed = root.get("servers").and_then(Tree::list).unwrap_or_default().iter();
    let servers: Vec<&Tree> =
        listed.chain([root]).map(|one| one.get("server").unwrap_or(one)).filter(|one| is_one(one)).collect();
    if servers.is_empty() {
        return false;
    }
    found.client = Client::Registry;
    for server in servers {
        let name = server.get("name").and_then(Tree::text).unwrap_or("server");
        let short = name.rsplit('/').next().unwrap_or(name);
        match Offer::of(server) {
            Some(offer) => found.servers.push(offer.server(short, server)),
            None => found.notes.push(format!("`{}` offers nothing that a hub can start or reach", quiet(short))),
        }
    }
    true
}

fn is_one(tree: &Tree) -> bool {
    let offers = |key| tree.get(key).and_then(Tree::list).is_some_and(|list| !list.is_empty());
    tree.get("name").is_some_and(|name| name.text().is_some()) && (offers("packages") || offers("remotes"))
}

/// One of the ways to have a server.
#[derive(Default)]
struct Offer {
    new: NewUpstream,
    notes: Vec<String>,
}

impl Offer {
    fn of(server: &Tree) -> Option<Self> {
        let list = |key| server.get(key).and_then(Tree::list).unwrap_or_default();
        let (packages, remotes) = (list("packages"), list("remotes"));
        let ways = packages.iter().filter_map(Self::package).chain(remotes.iter().filter_map(Self::remote));
        let mut ways: Vec<Offer> = ways.collect();
        if ways.is_empty() {
            return None;
        }
        let others = packages.len() + remotes.len() - 1;
        let mut first = ways.swap_remove(0);
        if others > 0 {
            first.notes.push(format!(
                "it is offered in {others} more way{}, which were left out",
                if others > 1 { "s" } else { "" }
            ));
        }
        Some(first)
    }

    fn server(mut self, name: &str, server: &Tree) -> Server {
        let description = server.get("description").and_then(Tree::text).filter(|text| !secret::is_value(text));
        self.new.comment = description.map(|text| text.chars().take(160).collect());
        Server { name: name.to_owned(), new: self.new, notes: self.notes }
    }

    fn package(package: &Tree) -> Option<Self> {
        let text = |keys: [&str; 2]| keys.iter().find_map(|key| package.get(key)?.text());
        let (kind, id) = (text(["registryType", "registry_type"])?, text(["identifier", "name"])?);
        let version = text(["version", "version"]).filter(|version| !version.is_empty());
        let at = |between: &str| version.map_or_else(|| id.to_owned(), |version| format!("{id}{between}{version}"));
        let transport = package.get("transport").and_then(|transport| transport.get("type")?.text());
        if transport.is_some_and(|kind| kind != "stdio") {
            return None;
        }
        let mut offer = Self::default();
        let runtime = offer.arguments(package, ["runtimeArguments", "runtime_arguments"]);
        let env = offer.environment(package);
        let words: Vec<String> = match kind {
            "npm" => ["npx", "-y"].into_iter().map(str::to_owned).chain(runtime).chain([at("@")]).collect(),
            "pypi" => ["uvx".to_owned()].into_iter().chain(runtime).chain([at("==")]).collect(),
            "nuget" => ["dnx".to_owned()].into_iter().chain(runtime).chain([at("@"), "--yes".to_owned()]).collect(),
            "oci" => {
                let names = env.iter().flat_map(|(name, _)| ["-e".to_owned(), name.clone()]);
                let image = if id.contains(['@']) || id.rsplit('/').next().is_some_and(|last| last.contains(':')) {
                    id.to_owned()
                } else {
                    at(":")
                };
                let run = ["docker", "run", "-i", "--rm"].into_iter().map(str::to_owned);
                run.chain(names).chain(runtime).chain([image]).collect()
            }
            _ => return None,
        };
        let mut seen_yes = false;
        let words = words.into_iter().filter(|word| word != "-y" || !std::mem::replace(&mut seen_yes, true));
        offer.new.command = words.collect();
        let rest = offer.arguments(package, ["packageArguments", "package_arguments"]);
        offer.new.command.extend(rest);
        offer.new.env = env;
        Some(offer)
    }

    fn remote(remote: &Tree) -> Option<Self> {
        let mut offer = Self::default();
        let url = remote.get("url")?.text()?;
        offer.new.transport = match remote.get("type").or(remote.get("transport_type"))?.text()? {
            "sse" => Some("sse"),
            "streamable-http" | "streamable" => Some("streamable-http"),
            _ => return None,
        };
        offer.new.url = Some(offer.filled(url, remote.get("variables")));
        for header in remote.get("headers").and_then(Tree::list).unwrap_or_default() {
            let Some(name) = header.get("name").and_then(Tree::text) else { continue };
            if let Some(value) = offer.value(name, header) {
                offer.new.headers.push((name.to_owned(), value));
            }
        }
        Some(offer)
    }

    fn arguments(&mut self, package: &Tree, keys: [&str; 2]) -> Vec<String> {
        let mut words = Vec::new();
        for argument in keys.iter().find_map(|key| package.get(key)?.list()).unwrap_or_default() {
            let named = argument.get("type").and_then(Tree::text) == Some("named");
            let name = argument.get("name").and_then(Tree::text).unwrap_or_default();
            let hint =
                ["valueHint", "value_hint"].iter().find_map(|key| argument.get(key)?.text()).unwrap_or("argument");
            let asks = ["value", "default", "isRequired", "is_required", "choices", "format", "valueHint"];
            if named && !asks.iter().any(|key| argument.get(key).is_some()) {
                // A switch.
                words.push(escaped(name));
            } else if let Some(value) = self.value(if named { name } else { hint }, argument) {
                words.extend(named.then(|| escaped(name)));
                words.push(value);
            }
        }
        words
    }

    fn environment(&mut self, package: &Tree) -> Vec<(String, String)> {
        let keys = ["environmentVariables", "environment_variables"];
        let all = keys.iter().find_map(|key| package.get(key)?.list()).unwrap_or_default();
        let named = all.iter().filter_map(|one| Some((one.get("name")?.text()?, one)));
        named.filter_map(|(name, one)| Some((name.to_owned(), self.value(name, one)?))).collect()
    }

    /// What is given, else the default, else a variable where one is required.
    fn value(&mut self, name: &str, input: &Tree) -> Option<String> {
        let yes = |keys: [&str; 2]| keys.iter().any(|key| input.get(key).and_then(Tree::bool) == Some(true));
        if let Some(value) = input.get("value").and_then(Tree::word) {
            return Some(self.filled(&value, input.get("variables")));
        }
        if let Some(default) = input.get("default").and_then(Tree::word) {
            return Some(escaped(&default));
        }
        let (required, secret) = (yes(["isRequired", "is_required"]), yes(["isSecret", "is_secret"]));
        if !required {
            self.notes.push(format!("`{}` may be set, and was left out", quiet(name)));
            return None;
        }
        let variable = variable_of(name.trim_start_matches('-'))?;
        let kind = if secret { "secret" } else { "value" };
        self.notes.push(format!("set the variable `{variable}`: it is a {kind} that the server requires"));
        Some(format!("${{env:{variable}}}"))
    }

    /// `{name}` becomes what is known of it.
    fn filled(&mut self, text: &str, variables: Option<&Tree>) -> String {
        let empty = Table::new();
        let variables = variables.and_then(Tree::table).unwrap_or(&empty);
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, after)| Some((before, after.split_once('}')?)))
        {
            out += &escaped(before);
            let known = variables.get(name).and_then(|input| input.get("value").or(input.get("default"))?.word());
            match (known, variable_of(name)) {
                (Some(known), _) => out += &escaped(&known),
                (None, Some(variable)) => {
                    self.notes.push(format!("set the variable `{variable}`: the server requires it"));
                    out += &format!("${{env:{variable}}}");
                }
                (None, None) => out += &escaped(&format!("{{{name}}}")),
            }
            rest = after;
        }
        out + &escaped(rest)
    }
}

fn quiet(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}
