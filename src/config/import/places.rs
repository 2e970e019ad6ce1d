//! Where clients keep their configuration: what `hubward import --scan` looks at.

use std::path::{Path, PathBuf};

/// A file that a client may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub client: &'static str,
    pub path: PathBuf,
}

/// Below the home of a person, on any system: a folder that is not there is passed over.
const HOME: [(&str, &str); 36] = [
    ("Claude Desktop", ".config/Claude/claude_desktop_config.json"),
    ("Claude Desktop", "Library/Application Support/Claude/claude_desktop_config.json"),
    ("Claude Desktop", "AppData/Roaming/Claude/claude_desktop_config.json"),
    ("Claude Code", ".claude.json"),
    ("Claude Code", ".claude/settings.json"),
    ("VS Code", ".config/Code/User/mcp.json"),
    ("VS Code", ".config/Code/User/settings.json"),
    ("VS Code", "Library/Application Support/Code/User/mcp.json"),
    ("VS Code", "Library/Application Support/Code/User/settings.json"),
    ("VS Code", "AppData/Roaming/Code/User/mcp.json"),
    ("VS Code", "AppData/Roaming/Code/User/settings.json"),
    ("VS Code Insiders", ".config/Code - Insiders/User/mcp.json"),
    ("Cursor", ".cursor/mcp.json"),
    ("Windsurf", ".codeium/windsurf/mcp_config.json"),
    ("Windsurf", ".codeium/mcp_config.json"),
    ("Cline", ".config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
    (
        "Cline",
        "Library/Application Support/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
    ),
    ("Cline", "AppData/Roaming/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
    ("Roo Code", ".config/Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json"),
    (
        "Roo Code",
        "Library/Application Support/Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
    ),
    ("Roo Code", "AppData/Roaming/Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json"),
    ("Gemini CLI", ".gemini/settings.json"),
    ("Zed", ".config/zed/settings.json"),
    ("Codex", ".codex/config.toml"),
    ("OpenCode", ".config/opencode/opencode.json"),
    ("OpenCode", ".config/opencode/opencode.jsonc"),
    ("goose", ".config/goose/config.yaml"),
    ("goose", "AppData/Roaming/Block/goose/config/config.yaml"),
    ("Continue", ".continue/config.yaml"),
    ("Continue", ".continue/config.json"),
    ("Crush", ".config/crush/crush.json"),
    ("LM Studio", ".lmstudio/mcp.json"),
    ("LM Studio", ".cache/lm-studio/mcp.json"),
    ("Kiro", ".kiro/settings/mcp.json"),
    ("Amp", ".config/amp/settings.json"),
    ("Copilot CLI", ".copilot/mcp-config.json"),
];

/// Below the folder of a project.
const PROJECT: [(&str, &str); 15] = [
    ("Claude Code", ".mcp.json"),
    ("VS Code", ".vscode/mcp.json"),
    ("VS Code", ".vscode/settings.json"),
    ("Cursor", ".cursor/mcp.json"),
    ("Roo Code", ".roo/mcp.json"),
    ("Gemini CLI", ".gemini/settings.json"),
    ("Zed", ".zed/settings.json"),
    ("Codex", ".codex/config.toml"),
    ("OpenCode", "opencode.json"),
    ("OpenCode", "opencode.jsonc"),
    ("Crush", "crush.json"),
    ("Crush", ".crush.json"),
    ("Kiro", ".kiro/settings/mcp.json"),
    ("MCP registry", "server.json"),
    ("mcphub", "mcp_settings.json"),
];

/// The files to look at: of the person first, then of the project; each once.
pub fn spots(home: Option<&Path>, project: &Path) -> Vec<Spot> {
    let of = |folder: &Path, (client, path): &(&'static str, &str)| Spot { client, path: folder.join(path) };
    let mut all: Vec<Spot> = home.into_iter().flat_map(|home| HOME.iter().map(move |one| of(home, one))).collect();
    for spot in PROJECT.iter().map(|one| of(project, one)) {
        if !all.iter().any(|known| known.path == spot.path) {
            all.push(spot);
        }
    }
    all
}
