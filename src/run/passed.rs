//! Sockets that whoever started us holds already: systemd's socket activation, `LISTEN_FDS`.
//!
//! One of them takes the place of the address in `bind` that is the same. It outlives us: who connects between two hubs
//! waits in it, and nobody is refused (F107). None of them is inherited by what we start.

use std::{
    fmt,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    sync::{Mutex, PoisonError},
};
#[cfg(unix)]
use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use super::StartError;
#[cfg(unix)]
use crate::server::socket::SocketFile;
use crate::{
    config::{Bind, Scheme},
    server::socket::Listener,
};

/// A socket that was passed, with what `FileDescriptorName=` calls it.
#[derive(Debug)]
pub struct Passed {
    name: String,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr),
    #[cfg(unix)]
    Unix(UnixListener, PathBuf),
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Socket::Tcp(_, address) => write!(f, "the socket `{}` at {address}", self.name),
            #[cfg(unix)]
            Socket::Unix(_, path) => write!(f, "the socket `{}` at unix:{}", self.name, path.display()),
        }
    }
}

/// What [`receive`] found, until [`taken`].
static RECEIVED: Mutex<Vec<Result<Passed, String>>> = Mutex::new(Vec::new());

/// Takes over what was passed to this very process. To be called once, before any thread is started: the environment
/// that says so is cleared.
pub fn receive() {
    #[cfg(target_os = "linux")]
    RECEIVED.lock().unwrap_or_else(PoisonError::into_inner).extend(linux::receive());
}

/// What was passed, to whoever asks first.
pub fn taken() -> Result<Vec<Passed>, StartError> {
    let received = std::mem::take(&mut *RECEIVED.lock().unwrap_or_else(PoisonError::into_inner));
    let all: Result<Vec<Passed>, String> = received.into_iter().collect();
    all.map_err(|error| StartError::Passed(format!("a socket was passed to us that is of no use: {error}")))
}

/// The one that is where `bind` says, if there is one.
pub fn take(passed: &mut Vec<Passed>, bind: &Bind, certified: bool) -> Option<Result<Listener, StartError>> {
    let at = passed.iter().position(|one| one.is_at(bind))?;
    let one = passed.swap_remove(at);
    tracing::info!("{bind}: {one} is taken");
    Some(one.into_listener(bind.is_secure(certified)).map_err(StartError::Serve))
}

impl Passed {
    fn is_at(&self, bind: &Bind) -> bool {
        match (&self.socket, &bind.scheme) {
            #[cfg(unix)]
            (Socket::Unix(_, path), Scheme::Unix(wanted)) => is_same(path, wanted),
            #[cfg(unix)]
            (Socket::Unix(..), _) => false,
            (Socket::Tcp(..), Scheme::Unix(_)) => false,
            (Socket::Tcp(_, address), _) => {
                let host = bind.host.trim_matches(['[', ']']);
                (host, bind.port).to_socket_addrs().is_ok_and(|mut all| all.any(|one| one == *address))
            }
        }
    }

    fn into_listener(self, secure: bool) -> std::io::Result<Listener> {
        Ok(match self.socket {
            Socket::Tcp(listener, _) => {
                listener.set_nonblocking(true)?;
                if secure { Listener::Tls(listener) } else { Listener::Plain(listener) }
            }
            #[cfg(unix)]
            Socket::Unix(listener, path) => {
                listener.set_nonblocking(true)?;
                Listener::Unix(listener, SocketFile::of_another(path))
            }
        })
    }
}

/// `/var/run` and `/run` are often one folder.
#[cfg(unix)]
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsFd;

    use listenfd::ListenFd;
    use rustix::net::sockopt::socket_acceptconn;

    use super::*;

    pub(super) fn receive() -> Vec<Result<Passed, String>> {
        // It looks at LISTEN_PID, and closes them all for what we start.
        let named = match sd_notify::listen_fds() {
            Ok(none) if none.len() == 0 => return Vec::new(),
            _ => sd_notify::listen_fds_with_names(),
        };
        let names: Vec<String> = match named {
            Ok(named) => named.map(|(_, name)| name).collect(),
            Err(error) => return vec![Err(format!("LISTEN_FDS and what goes with it: {error}"))],
        };
        let mut descriptors = ListenFd::from_env();
        names.into_iter().enumerate().map(|(at, name)| one(&mut descriptors, at, name)).collect()
    }

    fn one(descriptors: &mut ListenFd, at: usize, name: String) -> Result<Passed, String> {
        let listens = |socket: &dyn AsFd| match socket_acceptconn(socket.as_fd()) {
            Ok(true) => Ok(()),
            _ => Err(format!("`{name}` does not listen; it takes `Accept=no` in the socket unit")),
        };
        if let Ok(Some(listener)) = descriptors.take_unix_listener(at) {
            listens(&listener)?;
            let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
            let path = path.ok_or_else(|| format!("`{name}` is a unix socket without a path"))?;
            return Ok(Passed { name, socket: Socket::Unix(listener, path) });
        }
        let listener = descriptors.take_tcp_listener(at).ok().flatten();
        let listener = listener.ok_or_else(|| format!("`{name}` is no stream socket; it takes `ListenStream=`"))?;
        listens(&listener)?;
        let address = listener.local_addr().map_err(|error| format!("`{name}`: {error}"))?;
        Ok(Passed { name, socket: Socket::Tcp(listener, address) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_takes_the_socket_that_is_the_same() {
        let passed = |address: &str| {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            (Passed { name: "x".into(), socket: Socket::Tcp(listener, address) }, address.port())
        };
        let (one, port) = passed("127.0.0.1:0");
        let bind = |written: &str| written.replace("PORT", &port.to_string()).parse::<Bind>().unwrap();
        for (written, expected) in [
            ("127.0.0.1:PORT", true),
            ("http://127.0.0.1:PORT", true),
            ("localhost:PORT", true),
            ("127.0.0.2:PORT", false),
            ("0.0.0.0:PORT", false),
            ("127.0.0.1:1", false),
            ("127.0.0.1:0", false),
            ("unix:/x", false),
        ] {
            assert_eq!(one.is_at(&bind(written)), expected, "{written}");
        }
        let mut all = vec![one, passed("127.0.0.1:0").0];
        let secure = take(&mut all, &bind("https://127.0.0.1:PORT"), true).unwrap().unwrap();
        assert!(matches!(secure, Listener::Tls(_)) && all.len() == 1);
        assert!(take(&mut all, &bind("127.0.0.1:PORT"), false).is_none(), "it is gone");
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_file_that_was_passed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let one = Passed { name: "x".into(), socket: Socket::Unix(UnixListener::bind(&path).unwrap(), path.clone()) };
        let bind = |path: &Path| format!("unix:{}", path.display()).parse::<Bind>().unwrap();
        assert!(one.is_at(&bind(&path)) && one.is_at(&bind(&folder.path().join("./s"))));
        assert!(!one.is_at(&bind(&folder.path().join("t"))) && !one.is_at(&Bind::tcp("127.0.0.1", 1)));
        let listener = take(&mut vec![one], &bind(&path), true).unwrap().unwrap();
        assert_eq!(listener.to_string(), format!("http://unix:{}:", path.display()));
        drop(listener);
        assert!(path.exists());
    }
}
