//! Whose file it is, and in what that client differs from the others.

use std::path::Path;

use super::tree::{Table, Tree};

/// A program whose configuration names MCP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    ClaudeDesktop,
    ClaudeCode,
    VsCode,
    Cursor,
    Windsurf,
    Cline,
    Roo,
    Gemini,
    Zed,
    Codex,
    OpenCode,
    Goose,
    Continue,
    Crush,
    LmStudio,
    Kiro,
    Amp,
    McpHub,
    TbxArk,
    Compose,
    Registry,
    /// One of the many that say `mcpServers`.
    Other,
}

use Client::*;

impl Client {
    pub fn label(self) -> &'static str {
        match self {
            ClaudeDesktop => "Claude Desktop",
            ClaudeCode => "Claude Code",
            VsCode => "VS Code",
            Cursor => "Cursor",
            Windsurf => "Windsurf",
            Cline => "Cline",
            Roo => "Roo Code",
            Gemini => "Gemini CLI",
            Zed => "Zed",
            Codex => "Codex",
            OpenCode => "OpenCode",
            Goose => "goose",
            Continue => "Continue",
            Crush => "Crush",
            LmStudio => "LM Studio",
            Kiro => "Kiro",
            Amp => "Amp",
            McpHub => "mcphub",
            TbxArk => "mcp-proxy (TBXark)",
            Compose => "Docker Compose",
            Registry => "MCP registry",
            Other => "mcpServers",
        }
    }

    /// `$NAME` is expanded too.
    pub(super) fn expands_bare_names(self) -> bool {
        matches!(self, Gemini | Crush)
    }

    /// `timeout` is in seconds; else in thousandths.
    pub(super) fn counts_seconds(self) -> bool {
        matches!(self, Cline | Roo | Goose | Crush)
    }

    /// `timeout` is that of the start, not of a call.
    pub(super) fn times_the_start(self) -> bool {
        matches!(self, OpenCode)
    }

    /// `url` alone means HTTP+SSE.
    pub(super) fn means_sse(self) -> bool {
        self == Gemini
    }

    /// By where the file lies; what lies anywhere shows itself by its keys.
    pub(super) fn of(path: &Path, root: &Table) -> Self {
        let path = path.to_string_lossy().replace('\\', "/").to_lowercase();
        let place = [
            ("claude_desktop_config.json", ClaudeDesktop),
            (".claude.json", ClaudeCode),
            ("/.mcp.json", ClaudeCode),
            ("/.claude/", ClaudeCode),
            ("cline_mcp_settings.json", Cline),
            ("rooveterinaryinc.roo-cline", Roo),
            ("/.roo/", Roo),
            ("/.cursor/", Cursor),
            ("/.codeium/", Windsurf),
            ("/.gemini/", Gemini),
            ("/.kiro/", Kiro),
            ("/.lmstudio/", LmStudio),
            ("/zed/", Zed),
            ("/.zed/", Zed),
            ("/.codex/", Codex),
            ("opencode.json", OpenCode),
            ("crush.json", Crush),
            ("/goose/", Goose),
            ("/.continue/", Continue),
            ("mcp_settings.json", McpHub),
        ];
        place.iter().find(|(part, _)| path.contains(part)).map_or_else(|| Self::shown(root), |(_, client)| *client)
    }

    fn shown(root: &Table) -> Self {
        let has = |key: &str| root.contains_key(key);
        let servers = ["mcpServers", "mcp", "servers"].into_iter().filter_map(|key| root.get(key)?.table());
        let entries: Vec<&Table> = servers.flat_map(|table| table.values().filter_map(Tree::table)).collect();
        let any = |keys: &[&str]| entries.iter().any(|entry| keys.iter().any(|key| entry.contains_key(*key)));
        let schema = root.get("$schema").and_then(Tree::text).unwrap_or_default();
        match () {
            () if has("context_servers") => Zed,
            () if has("mcp_servers") => Codex,
            () if has("extensions") => Goose,
            () if has("mcpProxy") => TbxArk,
            () if has("users") || has("groups") || has("systemConfig") => McpHub,
            () if has("numStartups") || has("projects") => ClaudeCode,
            () if has("amp.mcpServers") => Amp,
            () if has("servers")
                || has("mcp.servers")
                || root.get("mcp").is_some_and(|mcp| mcp.get("servers").is_some()) =>
            {
                VsCode
            }
            () if root.get("mcpServers").is_some_and(|all| all.list().is_some()) => Continue,
            () if any(&["httpUrl", "includeTools", "excludeTools", "trust"]) => Gemini,
            () if any(&["serverUrl"]) => Windsurf,
            () if schema.contains("charm.land") => Crush,
            () if has("mcp")
                && entries
                    .iter()
                    .any(|entry| matches!(entry.get("type").and_then(Tree::text), Some("local" | "remote"))) =>
            {
                OpenCode
            }
            () if has("mcp") => Crush,
            () => Other,
        }
    }
}
