//! Which of the hub's own variables its children see.

/// Which of the hub's own variables a child sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InheritEnv {
    /// [`SAFE_ENV`]: what programs need to find themselves at home, and no secrets.
    #[default]
    Safe,
    All,
    Names(Vec<String>),
}

/// What [`InheritEnv::Safe`] lets through.
pub const SAFE_ENV: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "TERM",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    // Without these a Windows program does not even find its libraries.
    #[cfg(windows)]
    "SYSTEMROOT",
    #[cfg(windows)]
    "USERPROFILE",
    #[cfg(windows)]
    "APPDATA",
    #[cfg(windows)]
    "LOCALAPPDATA",
    #[cfg(windows)]
    "TEMP",
    #[cfg(windows)]
    "PATHEXT",
];

/// What systemd says to the hub alone: a child that takes it for its own would speak in the hub's name.
const SYSTEMD_ENV: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

impl InheritEnv {
    /// Whether a child sees the hub's own variable of this name.
    pub fn admits(&self, variable: &str) -> bool {
        match self {
            InheritEnv::Safe => SAFE_ENV.contains(&variable),
            InheritEnv::All => !SYSTEMD_ENV.contains(&variable),
            InheritEnv::Names(names) => names.iter().any(|name| name == variable),
        }
    }
}
