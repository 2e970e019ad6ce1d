//! The ready configuration of each client for one upstream. Pure: a name and a URL become text to paste.
//!
//! No token ever stands in it. What stands there is the variable `HUB_TOKEN`, as each client writes variables, or, where
//! a client knows none, the word to replace.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::json;
use url::form_urlencoded::byte_serialize;

/// How to connect one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snippet {
    /// What `--for` takes.
    pub id: &'static str,
    pub label: &'static str,
    /// `bash`, `json`, `toml` or `text`: steps for a dialog.
    pub language: &'static str,
    /// The file or the place it goes into.
    #[serde(rename = "where")]
    pub where_: &'static str,
    pub text: String,
    /// What one click does, where the client has such a thing.
    pub link: Option<String>,
    pub note: Option<&'static str>,
}

/// How to connect each client to the upstream `name`, which is reached at `url`; in the order of a list to choose from.
pub fn snippets(name: &str, url: &str, needs_token: bool) -> Vec<Snippet> {
    // A dot is in the names of the hub, and not in those of every client.
    let mount = Mount { name: &name.replace('.', "-"), url, token: needs_token };
    vec![
        mount.claude_code(),
        mount.claude_desktop(),
        mount.vscode(),
        mount.cursor(),
        mount.windsurf(),
        mount.zed(),
        mount.jetbrains(),
        mount.chatgpt(),
        mount.gemini(),
        mount.inspector(),
        mount.codex(),
    ]
}

/// What stands in for a token where a client expands no variable.
const REPLACE: Option<&str> = Some("It expands no variables here: replace HUB_TOKEN by the token.");

struct Mount<'a> {
    name: &'a str,
    url: &'a str,
    token: bool,
}

impl Mount<'_> {
    fn claude_code(&self) -> Snippet {
        let header = if self.token { r#" --header "Authorization: Bearer $HUB_TOKEN""# } else { "" };
        Snippet {
            id: "claude-code",
            label: "Claude Code",
            language: "bash",
            where_: "In a terminal; with `--scope project` before the name it goes into `.mcp.json`",
            text: format!("claude mcp add --transport http {} {}{header}", self.name, shell(self.url)),
            link: None,
            note: self.token.then_some("Run it where HUB_TOKEN is set: the shell puts the token in."),
        }
    }

    /// Its file knows commands only.
    fn claude_desktop(&self) -> Snippet {
        Snippet {
            id: "claude-desktop",
            label: "Claude Desktop",
            language: "json",
            where_: "claude_desktop_config.json (Settings > Developer > Edit Config)",
            text: self.entry("mcpServers", &self.bridge()),
            link: None,
            note: Some(match self.token {
                true => {
                    "It starts commands only, so `hubward connect` is the bridge. Replace HUB_TOKEN in `env` by the token."
                }
                false => {
                    "It starts commands only, so `hubward connect` is the bridge. A hub with a public https URL can be \
                          added under Connectors instead."
                }
            }),
        }
    }

    fn vscode(&self) -> Snippet {
        let (asks, headers) = match self.token {
            true => (
                "  \"inputs\": [\n    { \"type\": \"promptString\", \"id\": \"hub-token\", \"description\": \"Hub token\", \
                 \"password\": true }\n  ],\n",
                self.headers("Bearer ${input:hub-token}", 6),
            ),
            false => ("", String::new()),
        };
        let (name, url) = (quoted(self.name), quoted(self.url));
        let server = format!("{{\n      \"type\": \"http\",\n      \"url\": {url}{headers}\n    }}");
        let mut link = json!({ "name": self.name, "type": "http", "url": self.url });
        if self.token {
            let input =
                json!({ "type": "promptString", "id": "hub-token", "description": "Hub token", "password": true });
            link["headers"] = json!({ "Authorization": "Bearer ${input:hub-token}" });
            link["inputs"] = json!([input]);
        }
        Snippet {
            id: "vscode",
            label: "VS Code",
            language: "json",
            where_: ".vscode/mcp.json in the project, or MCP: Open User Configuration",
            text: format!("{{\n{asks}  \"servers\": {{\n    {name}: {server}\n  }}\n}}\n"),
            link: Some(format!("vscode:mcp/install?{}", percent(&link.to_string()))),
            note: self.token.then_some("It asks for the token once and keeps it encrypted."),
        }
    }

    fn cursor(&self) -> Snippet {
        let mut server = json!({ "url": self.url });
        if self.token {
            server["headers"] = json!({ "Authorization": "Bearer ${env:HUB_TOKEN}" });
        }
        let config = percent(&BASE64_STANDARD.encode(server.to_string()));
        let name = percent(self.name);
        Snippet {
            id: "cursor",
            label: "Cursor",
            language: "json",
            where_: "~/.cursor/mcp.json, or .cursor/mcp.json in the project",
            text: self.remote("mcpServers", "url", "Bearer ${env:HUB_TOKEN}"),
            link: Some(format!("cursor://anysphere.cursor-deeplink/mcp/install?name={name}&config={config}")),
            note: None,
        }
    }

    fn windsurf(&self) -> Snippet {
        Snippet {
            id: "windsurf",
            label: "Windsurf",
            language: "json",
            where_: "~/.codeium/windsurf/mcp_config.json",
            text: self.remote("mcpServers", "serverUrl", "Bearer ${env:HUB_TOKEN}"),
            link: None,
            note: None,
        }
    }

    /// Without headers it tries OAuth; so there is always one.
    fn zed(&self) -> Snippet {
        let text = match self.token {
            true => self.remote("context_servers", "url", "Bearer HUB_TOKEN"),
            false => {
                let headers = ",\n      \"headers\": { \"X-Client\": \"zed\" }";
                self.entry("context_servers", &format!("{{\n      \"url\": {}{headers}\n    }}", quoted(self.url)))
            }
        };
        Snippet {
            id: "zed",
            label: "Zed",
            language: "json",
            where_: "settings.json (zed: open settings)",
            text,
            link: None,
            note: if self.token { REPLACE } else { Some("Without any header Zed would try to log in.") },
        }
    }

    /// Of headers its manual says nothing.
    fn jetbrains(&self) -> Snippet {
        let server = match self.token {
            true => self.bridge(),
            false => format!("{{\n      \"url\": {}\n    }}", quoted(self.url)),
        };
        Snippet {
            id: "jetbrains",
            label: "JetBrains",
            language: "json",
            where_: "Settings > Tools > AI Assistant > Model Context Protocol (MCP) > Add > As JSON",
            text: self.entry("mcpServers", &server),
            link: None,
            note: Some(match self.token {
                true => "`hubward connect` sends the token; replace HUB_TOKEN in `env` by it.",
                false => "Junie starts commands only: give it `hubward connect` and the URL.",
            }),
        }
    }

    fn chatgpt(&self) -> Snippet {
        let auth = if self.token { "OAuth" } else { "No authentication" };
        Snippet {
            id: "chatgpt",
            label: "ChatGPT",
            language: "text",
            where_: "On the web: Settings > Connectors > Advanced > Developer mode",
            text: format!(
                "1. Create a connector (Add custom MCP server).\n2. Name: {}\n3. URL: {}\n4. Authentication: {auth}\n",
                self.name, self.url
            ),
            link: None,
            note: Some(match self.token {
                true => "It needs a public https URL and can send no static token: set hub.auth.jwt.",
                false => "It needs a public https URL.",
            }),
        }
    }

    fn gemini(&self) -> Snippet {
        Snippet {
            id: "gemini",
            label: "Gemini CLI",
            language: "json",
            where_: "~/.gemini/settings.json, or .gemini/settings.json in the project",
            text: self.remote("mcpServers", "httpUrl", "Bearer $HUB_TOKEN"),
            link: None,
            note: None,
        }
    }

    fn inspector(&self) -> Snippet {
        let header = if self.token { " \\\n  --header \"Authorization: Bearer $HUB_TOKEN\"" } else { "" };
        Snippet {
            id: "inspector",
            label: "MCP Inspector",
            language: "bash",
            where_: "In a terminal",
            text: format!(
                "npx @modelcontextprotocol/inspector --cli --transport http \\\n  --server-url {}{header} \\\n  --method tools/list\n",
                shell(self.url)
            ),
            link: None,
            note: Some("Without --cli and what follows it opens a page, where the URL can be typed."),
        }
    }

    fn codex(&self) -> Snippet {
        let token = if self.token { "bearer_token_env_var = \"HUB_TOKEN\"\n" } else { "" };
        Snippet {
            id: "codex",
            label: "Codex",
            language: "toml",
            where_: "~/.codex/config.toml",
            text: format!("[mcp_servers.{}]\nurl = {}\n{token}", self.name, quoted(self.url)),
            link: None,
            note: None,
        }
    }

    /// `hubward connect`, as clients that start commands write it. A header without a space needs no quoting anywhere.
    fn bridge(&self) -> String {
        let url = quoted(self.url);
        let (more, env) = match self.token {
            true => {
                (", \"--header\", \"X-API-Key:${HUB_TOKEN}\"", ",\n      \"env\": { \"HUB_TOKEN\": \"HUB_TOKEN\" }")
            }
            false => ("", ""),
        };
        format!("{{\n      \"command\": \"hubward\",\n      \"args\": [\"connect\", {url}{more}]{env}\n    }}")
    }

    /// A file that names its URL by `key`.
    fn remote(&self, section: &str, key: &str, token: &str) -> String {
        let headers = if self.token { self.headers(token, 6) } else { String::new() };
        self.entry(section, &format!("{{\n      \"{key}\": {}{headers}\n    }}", quoted(self.url)))
    }

    fn headers(&self, token: &str, indent: usize) -> String {
        format!(",\n{:indent$}\"headers\": {{ \"Authorization\": {} }}", "", quoted(token))
    }

    fn entry(&self, section: &str, server: &str) -> String {
        format!("{{\n  \"{section}\": {{\n    {}: {server}\n  }}\n}}\n", quoted(self.name))
    }
}

/// A string of JSON, which is one of TOML too.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

/// One word for a shell.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// As `encodeURIComponent` has it: a space is no plus.
fn percent(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests;
