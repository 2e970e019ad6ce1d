//! The way to a server: its name, TCP, and the certificate.

use super::{DAY, DAYS, Finding, Seen, Shown};

pub(super) fn name(seen: &Seen) -> Option<Finding> {
    Some(match seen.addresses.as_ref()? {
        Ok(all) => {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            Finding::ok("name", format!("{} is {}", seen.host, all.join(", ")))
        }
        Err(why) => Finding::fail(
            "name",
            format!("{} has no address: {why}", seen.host),
            format!(
                "is it spelled right? `getent hosts {}` asks what this machine knows; a VPN may be missing",
                seen.host
            ),
        ),
    })
}

pub(super) fn tcp(seen: &Seen) -> Option<Finding> {
    let place = format!("{}:{}", seen.host, seen.port);
    Some(match seen.connected.as_ref()? {
        Ok(after) => Finding::ok("tcp", format!("{place} takes connections ({} ms)", after.as_millis())),
        Err(why) if why.contains("refused") && is_here(seen) => Finding::fail(
            "tcp",
            format!("nobody listens at {place}"),
            "start the hub: `hubward serve`; `ss -ltnp` shows who listens where",
        ),
        Err(why) if why.contains("refused") => Finding::fail(
            "tcp",
            format!("nobody listens at {place}"),
            "is the port right? Does the server listen on this address, and not on 127.0.0.1 only?",
        ),
        Err(why) => Finding::fail(
            "tcp",
            format!("{place}: {why}"),
            "a firewall may swallow it, or the machine is off; try from another network",
        ),
    })
}

pub(super) fn tls(seen: &Seen) -> Option<Finding> {
    if !seen.secure {
        let far = seen.connected.as_ref()?.is_ok() && !is_here(seen);
        return far.then(|| {
            let next = "let the server speak https: `tls = { cert = …, key = … }` in [hub], or a proxy in front";
            Finding::warn("tls", "none: tokens cross the network readable, and pages of https: cannot call it", next)
        });
    }
    let shown = match seen.shown.as_ref()? {
        Ok(shown) => shown,
        Err(why) if why.contains("InvalidContentType") || why.contains("corrupt message") => {
            let plain = seen.url.replacen("https://", "http://", 1);
            return Some(Finding::fail("tls", "what answers there speaks no TLS", format!("try {plain}")));
        }
        Err(why) => {
            let next = format!("`openssl s_client -connect {}:{}` shows more", seen.host, seen.port);
            return Some(Finding::fail("tls", format!("no handshake: {why}"), next));
        }
    };
    Some(certificate(seen, shown))
}

fn certificate(seen: &Seen, shown: &Shown) -> Finding {
    let now = seen.now.and_then(|now| now.duration_since(std::time::UNIX_EPOCH).ok());
    let now = now.map_or(0, |now| now.as_secs() as i64);
    let days = (shown.not_after - now) / DAY;
    if shown.not_after < now {
        let seen = format!("the certificate ended {} days ago", -days);
        return Finding::fail("tls", seen, "renew it; hubward takes over renewed files by itself");
    }
    if shown.not_before > now {
        return Finding::fail("tls", "the certificate is not valid yet", "is the clock of this machine right?");
    }
    if !shown.names.iter().any(|name| covers(name, &seen.host)) {
        let names = if shown.names.is_empty() { "nobody".into() } else { shown.names.join(", ") };
        let next = format!("use one of these names in the URL, or a certificate for {}", seen.host);
        return Finding::fail("tls", format!("the certificate is for {names}, not for {}", seen.host), next);
    }
    match &seen.trusted {
        Some(Err(why)) if why.contains("CertificateRequired") || why.contains("certificate required") => {
            let next = "give the client a certificate that the server's client_ca has signed";
            return Finding::fail("tls", "the server asks for a client certificate", next);
        }
        Some(Err(_)) if shown.self_signed => {
            let next = "trust this very certificate: `--ca FILE` here, `tls = { ca = … }` in hub.toml, NODE_EXTRA_CA_CERTS=FILE for clients in Node.js";
            return Finding::fail("tls", "the certificate has signed itself: nobody believes it unasked", next);
        }
        Some(Err(why)) => {
            let cut = if shown.chain < 2 {
                "; it sends no certificate but its own: does `cert` lack the intermediate ones?"
            } else {
                ""
            };
            let next = format!(
                "trust its authority ({}): `--ca FILE` here, `tls = {{ ca = … }}` in hub.toml, NODE_EXTRA_CA_CERTS=FILE for clients in Node.js{cut}",
                shown.issuer
            );
            return Finding::fail("tls", format!("the certificate is not believed: {why}"), next);
        }
        _ => {}
    }
    let told = format!("{}, a certificate for {} until {days} days from now", shown.version, shown.names.join(", "));
    match days < DAYS {
        true => Finding::warn("tls", told, "renew it; hubward takes over renewed files by itself"),
        false => Finding::ok("tls", told),
    }
}

/// Is a certificate's name this host's? A star stands for one label.
fn covers(name: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    match name.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(rest)),
        None => name.eq_ignore_ascii_case(host),
    }
}

/// Is it this machine?
pub(super) fn is_here(seen: &Seen) -> bool {
    matches!(&seen.addresses, Some(Ok(all)) if all.iter().all(|address| address.to_canonical().is_loopback()))
}
