//! Sockets: those we listen on, and what is known of those that were accepted.

use std::{any::Any, fmt, io, net::TcpListener, path::Path, time::Duration};
#[cfg(unix)]
use std::{
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::PathBuf,
};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use tokio::net::TcpStream;

use super::{crowd::Crowd, tls::Peer};

/// Who may use a socket in the file system: its owner and its group.
#[cfg(unix)]
const SOCKET_MODE: u32 = 0o660;

/// A place that is bound.
pub enum Listener {
    Plain(TcpListener),
    Tls(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, SocketFile),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener::Plain(listener)
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

/// A socket in the file system; gone when this is dropped.
#[cfg(unix)]
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Which file it is: another hub may have put its own there meanwhile.
    inode: (u64, u64),
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
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
    let file = SocketFile { path: path.to_owned(), inode: inode(path)? };
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
        if let Some(certificate) = tls.peer_certificates().and_then(<[_]>::first) {
            data.insert(Peer::from_certificate(certificate));
        }
        if tls.alpn_protocol() == Some(b"h2") {
            data.insert(Crowd::of(socket));
        }
    }
}

/// A peer that vanished without a word is noticed within a minute.
fn keep_alive(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        use rustix::net::sockopt;
        let _ = sockopt::set_socket_keepalive(stream, true);
        let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(15));
        let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5));
        let _ = sockopt::set_tcp_keepcnt(stream, 4);
        let _ = sockopt::set_tcp_user_timeout(stream, 40_000);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, Duration::ZERO);
}
