//! Sockets: those we listen on, and what is known of those that were accepted.

use std::{
    any::Any,
    fmt, io,
    net::{SocketAddr, TcpListener},
    path::Path,
};
#[cfg(unix)]
use std::{
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::PathBuf,
};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use tokio::net::TcpStream;

use super::{
    crowd::Crowd,
    tls::{Encrypted, Peer},
};
use crate::link::keepalive::keep_alive;

/// Who may use a socket in the file system: its owner and its group.
#[cfg(unix)]
const SOCKET_MODE: u32 = 0o660;

/// A place that is bound.
pub enum Listener {
    /// HTTP.
    Plain(TcpListener),
    /// HTTPS; the configuration names a certificate.
    Tls(TcpListener),
    /// HTTP in the file system.
    #[cfg(unix)]
    Unix(UnixListener, SocketFile),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Plain(listener)
    }
}

impl Listener {
    /// Makes sure that nobody waits in `accept`. Answers the address, where it has one that others may reach.
    pub fn prepare(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Listener::Plain(listener) | Listener::Tls(listener) => {
                listener.set_nonblocking(true)?;
                listener.local_addr().map(Some)
            }
            #[cfg(unix)]
            Listener::Unix(listener, _) => listener.set_nonblocking(true).map(|()| None),
        }
    }
}

/// Shows the URL that everything there begins with. For a socket in the file system it is the one of nginx.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = |listener: &TcpListener| listener.local_addr().map_err(|_| fmt::Error);
        match self {
            Listener::Plain(listener) => write!(f, "http://{}", address(listener)?),
            Listener::Tls(listener) => write!(f, "https://{}", address(listener)?),
            #[cfg(unix)]
            Listener::Unix(_, file) => write!(f, "http://unix:{}:", file.path.display()),
        }
    }
}

/// A socket in the file system; gone when this is dropped, unless somebody else made it.
#[cfg(unix)]
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Which file it is: another hub may have put its own there meanwhile.
    inode: Option<(u64, u64)>,
}

#[cfg(unix)]
impl SocketFile {
    /// One that was made by whoever handed its socket to us: it stays.
    pub fn of_another(path: PathBuf) -> SocketFile {
        SocketFile { path, inode: None }
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path).ok() == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Listens in the file system. What a dead hub left there is removed; all else is left alone.
#[cfg(unix)]
pub fn listen_at(path: &Path) -> io::Result<Listener> {
    use std::os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    };

    use rustix::{fs::Mode, net};

    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::other("something that is no socket is there already"));
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        },
    }
    let socket = net::socket(net::AddressFamily::UNIX, net::SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    // On Linux the file is made with the mode of the socket, less the umask: so it is at no time open to more.
    let _ = rustix::fs::fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE as _));
    net::bind(&socket, &net::SocketAddrUnix::new(path)?)?;
    let file = SocketFile { path: path.to_owned(), inode: Some(inode(path)?) };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    net::listen(&socket, 1024)?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, file))
}

#[cfg(not(unix))]
pub fn listen_at(_: &Path) -> io::Result<Listener> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Looks at a connection that was just accepted; what is worth keeping goes to its requests.
pub fn accepted(connection: &dyn Any, data: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        keep_alive(stream);
    }
    if let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() {
        let (socket, tls) = stream.get_ref();
        keep_alive(socket);
        data.insert(Encrypted);
        if let Some(certificate) = tls.peer_certificates().and_then(<[_]>::first) {
            data.insert(Peer::from_certificate(certificate));
        }
        if tls.alpn_protocol() == Some(b"h2") {
            data.insert(Crowd::of(socket));
        }
    }
}
