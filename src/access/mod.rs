//! Who knocks, and where they may come in.
//!
//! A caller becomes a [`Principal`] by what it shows with *each* request: a static token, a signed token of an identity
//! provider, a client certificate, or whatever another service takes. Nothing is remembered from one request to the
//! next, nothing is read from a path or a query, and a credential ends here: it goes to no upstream
//! (2026-07-28, basic/authorization). What belongs to a principal (sessions, parked calls, tasks) is found by its id,
//! and for any other it is not there.

#![cfg_attr(docsrs, doc(hidden))]

mod failures;
mod forward;
mod jwt;
mod principal;
mod share;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

pub use forward::Outline;
pub use principal::{Guest, Kind, Principal};
pub use share::{Held, Permit, Share};

use failures::Failures;
use forward::Forward;
use jwt::Jwt;
use share::Shares;

use crate::config::{AccessConfig, Grant, HubConfig, Rate, hash};

/// What a request shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Knock<'a> {
    /// The token of `Authorization: Bearer` or `X-API-Key`.
    pub token: Option<&'a str>,
    /// The name in the certificate that the connection was opened with.
    pub certificate: Option<&'a str>,
    /// Where it comes from, where that is known.
    pub address: Option<IpAddr>,
}

/// Why somebody does not come in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("this hub asks who you are: send `Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`")]
    Missing,
    /// The reason is for the log and for the caller: it says nothing of what would be right.
    #[error("the token is not accepted: {0}")]
    Invalid(&'static str),
    #[error("too many wrong tokens came from this address; try again later")]
    TooMany(Duration),
    /// Nobody can tell at the moment.
    #[error("{0}; try again later")]
    Unsure(&'static str),
    /// The service of `forward` says no, in its own words.
    #[error("the service that decides about access refused this request")]
    Refused { status: u16, challenge: Option<String> },
}

/// Why somebody who is known does not come in here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// The token was issued for something else.
    Audience,
    /// Scopes of which the token has none that would do.
    Scope(Vec<String>),
    /// It is for others.
    Others,
}

/// The rules of one generation. What has to outlive them is carried over.
pub struct Gate {
    config: AccessConfig,
    tokens: HashMap<[u8; 32], Principal>,
    jwt: Option<Arc<Jwt>>,
    forward: Option<Arc<Forward>>,
    /// Who comes in with nothing at all.
    open: Option<Principal>,
    /// Client certificates are asked for, and say who it is.
    certificates: bool,
    shares: Arc<Shares>,
    failures: Arc<Failures>,
}

impl Gate {
    /// The rules of a configuration. `before`: what is known of keys and counted of principals stays.
    pub fn new(hub: &HubConfig, before: Option<&Gate>) -> Gate {
        let config = hub.access.clone();
        let shares = before.map_or_else(Arc::default, |before| before.shares.clone());
        let kept = before.filter(|before| before.config.jwt == config.jwt).and_then(|before| before.jwt.clone());
        let tokens = config.tokens.iter().map(|token| (token.sha256, Principal::of_token(token, &shares))).collect();
        let certificates = hub.asks_for_certificates();
        let open = match (config.is_set() || certificates, config.allow_unauthenticated) {
            (_, true) => Some(Principal::anyone(&shares)),
            (false, false) => Some(Principal::local(&shares)),
            (true, false) => None,
        };
        Gate {
            tokens,
            jwt: kept.or_else(|| config.jwt.clone().map(|jwt| Arc::new(Jwt::new(jwt, shares.clone())))),
            forward: config.forward.clone().map(|forward| Arc::new(Forward::new(forward, shares.clone()))),
            open,
            certificates,
            failures: before.map_or_else(Arc::default, |before| before.failures.clone()),
            shares,
            config,
        }
    }

    /// Who is it? `outline`: what another service would be told of the request, made only where it is asked.
    pub async fn admit(&self, knock: Knock<'_>, outline: impl FnOnce() -> Outline) -> Result<Principal, Denied> {
        let Some(token) = knock.token else {
            let certificate = knock.certificate.filter(|_| self.certificates);
            return match (certificate, &self.forward, &self.open) {
                (Some(name), ..) => Ok(Principal::of_certificate(name, &self.shares)),
                (None, Some(forward), None) => Box::pin(forward.ask(outline())).await,
                (None, _, Some(open)) => Ok(open.clone()),
                (None, None, None) => Err(Denied::Missing),
            };
        };
        if let Some(principal) = self.tokens.get(&hash(token)) {
            return Ok(principal.clone());
        }
        if let (false, Some(open)) = (self.config.is_set(), &self.open) {
            // Nobody asked for it: clients send what they were once told to.
            return Ok(open.clone());
        }
        if let Some(known) = self.jwt.as_ref().and_then(|jwt| jwt.known(token)) {
            return Ok(known);
        }
        // Before anything is computed for a stranger's guess (F69).
        if let Some(wait) = knock.address.and_then(|address| self.failures.wait(address)) {
            return Err(Denied::TooMany(wait));
        }
        let judged = match (&self.jwt, &self.forward) {
            (Some(jwt), None) => Box::pin(jwt.verify(token)).await,
            (Some(jwt), Some(_)) if jwt::looks_like_one(token) => Box::pin(jwt.verify(token)).await,
            (_, Some(forward)) => Box::pin(forward.ask(outline())).await,
            (None, None) => Err(Denied::Invalid("it is unknown")),
        };
        if matches!(judged, Err(Denied::Invalid(_) | Denied::Refused { .. }))
            && let Some(address) = knock.address
        {
            self.failures.count(address);
        }
        judged
    }

    /// Whom the program lets in that the hub is a part of.
    pub fn guest(&self, guest: &Guest) -> Principal {
        Principal::of_guest(guest, &self.shares)
    }

    /// Whether what is shown in other ways than a token is somebody else's business, or nobody's.
    pub fn takes_anything(&self) -> bool {
        self.forward.is_some() || !(self.config.is_set() || self.certificates)
    }

    /// May they use an upstream? `mounts`: the URLs it is at, for tokens that are issued for one.
    pub fn bars(
        &self,
        principal: &Principal,
        name: &str,
        allow: &[Grant],
        mounts: impl FnOnce() -> Vec<String>,
    ) -> Option<Barred> {
        let jwt = self.config.jwt.as_ref().filter(|_| principal.kind() == Kind::Jwt);
        if let Some(jwt) = jwt {
            let meant = match &jwt.audience {
                Some(audience) => principal.is_for(std::slice::from_ref(audience)),
                None => principal.is_for(&mounts()),
            };
            if !meant {
                return Some(Barred::Audience);
            }
            if !jwt.scopes.iter().all(|scope| principal.has_scope(scope)) {
                return Some(Barred::Scope(jwt.scopes.clone()));
            }
        }
        if !principal.is_let_to(name) {
            return Some(Barred::Others);
        }
        if allow.iter().any(|grant| principal.matches(grant)) {
            return None;
        }
        let scopes = allow.iter().filter_map(|grant| match grant {
            Grant::Scope(scope) | Grant::Name(scope) => Some(scope.clone()),
            _ => None,
        });
        match jwt.map(|jwt| jwt.scopes.iter().cloned().chain(scopes).collect::<Vec<_>>()) {
            Some(scopes) if !scopes.is_empty() => Some(Barred::Scope(scopes)),
            _ => Some(Barred::Others),
        }
    }

    /// Counts a request; answers how long to wait where there were too many. Who cannot be told apart by what they
    /// show are told apart by where they come from.
    pub fn pace(&self, principal: &Principal, address: Option<IpAddr>, rate: Rate) -> Option<Duration> {
        match address.filter(|_| principal.kind() == Kind::Anyone) {
            Some(address) => self.shares.of(&format!("address {address}")).pace(rate),
            None => principal.share().pace(rate),
        }
    }

    /// Does it still count what a principal once showed? Sessions of one that is gone end.
    pub fn knows(&self, principal: &Principal) -> Option<Principal> {
        let same = |other: &&Principal| other.id() == principal.id();
        match principal.kind() {
            Kind::Local | Kind::Anyone => self.open.as_ref().filter(same).cloned(),
            Kind::Token => self.tokens.values().find(same).cloned(),
            Kind::Jwt => self.jwt.as_ref().filter(|jwt| principal.is_of(jwt.number())).map(|_| principal.clone()),
            Kind::Certificate => self.certificates.then(|| principal.clone()),
            Kind::Forwarded => self.forward.is_some().then(|| principal.clone()),
            // Each request asks again.
            Kind::Guest => Some(principal.clone()),
        }
    }

    /// Whether mounts have metadata to be found by (RFC 9728). One with static tokens only has none: clients that
    /// find it would want to log in.
    pub fn issuer(&self) -> Option<(&str, &[String])> {
        self.config.jwt.as_ref().map(|jwt| (jwt.issuer.as_str(), jwt.scopes.as_slice()))
    }
}

#[cfg(test)]
mod tests;
