//! A peer that vanished without a word is noticed within a minute.

use std::time::Duration;

use tokio::net::TcpStream;

/// Has the system ask an idle peer whether it is still there.
pub fn keep_alive(stream: &TcpStream) {
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
