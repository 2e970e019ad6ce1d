//! Where in a file the servers stand: each client has its own word for them.

use std::path::{Path, PathBuf};

use super::client::Client;
use super::entry::Entry;
use super::reference::Surroundings;
use super::tree::{Table, Tree};
use super::{Imported, Origin, registry};

/// The keys that hold servers. What stands before the last dot is a table, or a part of the key.
const HOMES: [&str; 9] = [
    "mcpServers",
    "servers",
    "context_servers",
    "mcp_servers",
    "mcp.servers",
    "mcp.mcpServers",
    "amp.mcpServers",
    "extensions",
    "mcp",
];

/// What stands beside the servers, is no setting of an editor, and has no place in a hub's file.
const BESIDE: [(&str, &str); 7] = [
    ("users", "who may call the hub: `hubward token new` makes tokens"),
    ("groups", "several servers behind one URL: here each has its own"),
    ("bearerKeys", "who may call the hub: `hubward token new` makes tokens"),
    ("systemConfig", "the other hub's own settings: compare them with [hub]"),
    ("mcpProxy", "the other hub's own settings: compare them with [hub]"),
    ("secrets", "write ${env:NAME} or ${file:PATH} where a secret is needed"),
    ("toolSets", "sets of tools: compare them with `tools` of each upstream"),
];

pub(super) fn read(root: &Tree, origin: &Origin<'_>) -> Imported {
    let empty = Table::new();
    // A list of servers without a name around it.
    let table = root.table().unwrap_or(&empty);
    let mut found = Imported { client: Client::of(origin.path, table), servers: Vec::new(), notes: Vec::new() };
    if registry::read(root, &mut found) || compose(table, &mut found) {
        return found;
    }
    let around = surroundings(table, found.client, origin);
    for home in HOMES {
        let (outer, inner) = home.rsplit_once('.').unwrap_or(("", home));
        let nested = table.get(outer).and_then(|outer| outer.get(inner));
        for servers in [table.get(home), nested.filter(|_| !outer.is_empty())].into_iter().flatten() {
            // The settings of Gemini CLI about all servers are called as others call the servers.
            if home != "mcp" || !beside_servers(table, servers) {
                all(servers, &around, &mut found);
            }
        }
    }
    if let Some(projects) = table.get("projects").and_then(Tree::table) {
        projects.iter().for_each(|(path, project)| of_project(path, project, origin, &mut found));
    }
    if found.servers.is_empty() && found.notes.is_empty() {
        bare(root, &around, &mut found);
    }
    chosen(table, &mut found);
    for (key, means) in BESIDE {
        if table.get(key).is_some_and(|value| !value.is_empty()) && !found.servers.is_empty() {
            found.notes.push(format!("`{key}` was left out: {means}"));
        }
    }
    found
}

fn beside_servers(root: &Table, mcp: &Tree) -> bool {
    root.contains_key("mcpServers") || mcp.get("servers").is_some() || mcp.get("mcpServers").is_some()
}

fn surroundings(root: &Table, client: Client, origin: &Origin<'_>) -> Surroundings {
    let inputs = root.get("inputs").or_else(|| root.get("mcp")?.get("inputs")).and_then(Tree::list).unwrap_or_default();
    let input = |input: &Tree| {
        let text = |key| input.get(key).and_then(Tree::text).unwrap_or_default().to_owned();
        (text("id"), text("description"))
    };
    Surroundings {
        bare: client.expands_bare_names(),
        curly: client == Client::OpenCode,
        home: origin.home.map(|home| home.to_string_lossy().into_owned()),
        workspace: workspace(origin).map(|folder| folder.to_string_lossy().into_owned()),
        inputs: inputs.iter().map(input).collect(),
    }
}

/// The folder of the project that a file belongs to, if it is not that of a person.
fn workspace(origin: &Origin<'_>) -> Option<PathBuf> {
    let folder = origin.path.parent().filter(|folder| folder.is_absolute())?;
    let inner = ["settings", ".vscode", ".cursor", ".roo", ".gemini", ".kiro", ".zed", ".codex", ".amp", ".continue"];
    let is_inner = |folder: &Path| folder.file_name().is_some_and(|name| inner.iter().any(|inner| name == *inner));
    let mut project = folder;
    while is_inner(project) {
        project = project.parent()?;
    }
    let name = origin.path.file_name()?.to_string_lossy();
    let beside = matches!(name.as_ref(), ".mcp.json" | "opencode.json" | "crush.json" | ".crush.json");
    (Some(project) != origin.home && (project != folder || beside)).then(|| project.to_owned())
}

/// The servers of one table, or of one list in which each says its name.
fn all(servers: &Tree, around: &Surroundings, found: &mut Imported) {
    for (name, tree) in servers.table().into_iter().flatten() {
        one(name, tree, around, found);
    }
    for (at, tree) in servers.list().unwrap_or_default().iter().enumerate() {
        let named = ["name", "id"].iter().find_map(|key| tree.get(key).and_then(Tree::text));
        one(named.unwrap_or(&format!("server-{}", at + 1)), tree, around, found);
    }
}

fn one(name: &str, tree: &Tree, around: &Surroundings, found: &mut Imported) {
    let Some(table) = tree.table() else {
        found.notes.push(format!("`{}` is no server: it is no table", quiet(name)));
        return;
    };
    match Entry::new(table, found.client, around).server(name) {
        Ok(server) => found.servers.push(server),
        Err(why) => found.notes.push(format!("`{}` was left out: {why}", quiet(name))),
    }
}

/// A name, as it may be printed.
fn quiet(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The servers that Claude Code starts in one folder only.
fn of_project(path: &str, project: &Tree, origin: &Origin<'_>, found: &mut Imported) {
    let home = origin.home.map(|home| home.to_string_lossy().into_owned());
    let around = Surroundings { workspace: Some(path.to_owned()), home, ..Default::default() };
    let first = found.servers.len();
    project.get("mcpServers").into_iter().for_each(|servers| all(servers, &around, found));
    for server in &mut found.servers[first..] {
        server.notes.push(format!("it was for the project {} only", quiet(path)));
        if server.new.url.is_none() && server.new.cwd.is_none() {
            server.new.cwd = Some(super::reference::escaped(path));
        }
    }
}

/// Servers without any word around them: a snippet of somebody's README.
fn bare(root: &Tree, around: &Surroundings, found: &mut Imported) {
    let is_server = |tree: &Tree| ["command", "url", "serverUrl", "httpUrl"].iter().any(|key| tree.get(key).is_some());
    if is_server(root) {
        let name = root.get("name").and_then(Tree::text).unwrap_or("server");
        return one(name, root, around, found);
    }
    let named = root.table().is_some_and(|table| !table.is_empty() && table.values().all(is_server));
    if named || root.list().is_some_and(|list| list.iter().all(is_server)) {
        all(root, around, found);
    }
}

/// What Gemini CLI and Claude Code say about servers by their names.
fn chosen(root: &Table, found: &mut Imported) {
    let names = |of: Option<&Tree>| -> Vec<String> {
        of.and_then(Tree::list).unwrap_or_default().iter().filter_map(Tree::word).collect()
    };
    let mcp = root.get("mcp").filter(|mcp| beside_servers(root, mcp));
    let (allowed, excluded) =
        (names(mcp.and_then(|mcp| mcp.get("allowed"))), names(mcp.and_then(|mcp| mcp.get("excluded"))));
    let project = root.get("projects").and_then(Tree::table).into_iter().flat_map(Table::values);
    let disabled: Vec<String> = project.flat_map(|project| names(project.get("disabledMcpServers"))).collect();
    for server in &mut found.servers {
        if !allowed.is_empty() && !allowed.contains(&server.name) || excluded.contains(&server.name) {
            server.new.disabled = true;
            server.notes.push("`mcp.allowed` or `mcp.excluded` keeps it off".into());
        }
        if disabled.contains(&server.name) {
            server.notes.push("in some projects it was switched off; here it is on".into());
        }
    }
}

/// Docker's gateway in a compose file: there is nothing to import, but something to say.
fn compose(root: &Table, found: &mut Imported) -> bool {
    let Some(services) = root.get("services").and_then(Tree::table) else { return false };
    found.client = Client::Compose;
    for (name, service) in services {
        let words = |key: &str| match service.get(key) {
            Some(Tree::List(list)) => list.iter().filter_map(Tree::word).collect::<Vec<_>>().join(" "),
            Some(one) => one.word().unwrap_or_default(),
            None => String::new(),
        };
        if words("image").contains("mcp-gateway") || words("command").contains("mcp gateway run") {
            found.notes.push(format!(
                "the service `{}` is Docker's MCP gateway, which a hub does not start: while it runs, \
                 `hubward add NAME http://127.0.0.1:PORT/mcp` makes one upstream of it; without compose, \
                 `hubward add NAME -- docker mcp gateway run` does",
                quiet(name)
            ));
        }
    }
    if found.notes.is_empty() {
        found
            .notes
            .push("a compose file is not imported: `hubward add NAME URL` takes a service that speaks MCP".into());
    }
    true
}
