//! A principal: the authenticated caller.

use std::{fmt, sync::Arc};

use super::share::{Share, Shares};
use crate::config::{Grant, TokenConfig, hex};

/// By what it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whoever reaches a hub that asks nobody: this machine.
    Local,
    /// Whoever shows nothing where that is allowed.
    Anyone,
    /// A static token of hub.toml (Bearer or `X-API-Key`).
    Token,
    /// A JWT of an identity provider.
    Jwt,
    /// A client certificate.
    Certificate,
    /// By the word of another service.
    Forwarded,
    /// By the word of the program that the hub is a part of.
    Guest,
}

/// Whom an embedding program lets in: what its own authentication found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    id: String,
    name: Option<String>,
    scopes: Vec<String>,
    upstreams: Option<Vec<String>>,
}

impl Guest {
    /// `id` tells it from all others: sessions, parked calls and limits belong to it. It may use every upstream whose
    /// `allow` lets it in, by `user:ID` or by a scope.
    pub fn new(id: impl Into<String>) -> Guest {
        Guest { id: id.into(), name: None, scopes: Vec::new(), upstreams: None }
    }

    /// What logs, status, audit and `allow` (`user:NAME`) call it in place of its id.
    pub fn name(self, name: impl Into<String>) -> Guest {
        Guest { name: Some(name.into()), ..self }
    }

    /// What it may do, for `allow = ["scope:…"]`.
    pub fn scopes<S: Into<String>>(self, scopes: impl IntoIterator<Item = S>) -> Guest {
        Guest { scopes: scopes.into_iter().map(Into::into).collect(), ..self }
    }

    /// The only upstreams that it may use, by their names.
    pub fn upstreams<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Guest {
        Guest { upstreams: Some(names.into_iter().map(Into::into).collect()), ..self }
    }
}

/// The authenticated caller. Cheap to clone.
#[derive(Clone)]
pub struct Principal(Arc<Identity>);

struct Identity {
    /// What belongs to it is found by this; two kinds never share one.
    id: String,
    kind: Kind,
    /// What `allow` is compared with.
    exact: String,
    /// The same for people: logs, status, audit.
    name: Arc<str>,
    scopes: Vec<String>,
    /// For whom its token was issued.
    audience: Vec<String>,
    /// Upstreams that its token is good for; `None`: any.
    upstreams: Option<Vec<String>>,
    /// Which rules for signed tokens let it in.
    rules: u64,
    share: Arc<Share>,
}

/// The longest name that is shown, in characters.
const NAME_MAX: usize = 120;

impl Identity {
    fn new(kind: Kind, id: String, name: &str, shares: &Shares) -> Identity {
        let share = shares.of(&id);
        let exact = name.to_owned();
        let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
        let (scopes, audience) = (Vec::new(), Vec::new());
        Identity { id, kind, exact, name: name.into(), scopes, audience, upstreams: None, rules: 0, share }
    }
}

impl Principal {
    pub(super) fn local(shares: &Shares) -> Principal {
        Principal(Arc::new(Identity::new(Kind::Local, "local".into(), "local", shares)))
    }

    pub(super) fn anyone(shares: &Shares) -> Principal {
        Principal(Arc::new(Identity::new(Kind::Anyone, "anyone".into(), "anyone", shares)))
    }

    /// A token that was replaced is somebody else, whatever its name.
    pub(super) fn of_token(token: &TokenConfig, shares: &Shares) -> Principal {
        let mark = hex(&token.sha256[..8]);
        let identity = Identity::new(Kind::Token, format!("token {} {mark}", token.name), &token.name, shares);
        Principal(Arc::new(Identity { upstreams: token.upstreams.clone(), ..identity }))
    }

    pub(super) fn of_certificate(name: &str, shares: &Shares) -> Principal {
        Principal(Arc::new(Identity::new(Kind::Certificate, format!("certificate {name}"), name, shares)))
    }

    pub(super) fn of_user(id: &str, name: &str, shares: &Shares) -> Principal {
        Principal(Arc::new(Identity::new(Kind::Forwarded, format!("user {id}"), name, shares)))
    }

    pub(super) fn of_guest(guest: &Guest, shares: &Shares) -> Principal {
        let name = guest.name.as_ref().unwrap_or(&guest.id);
        let identity = Identity::new(Kind::Guest, format!("guest {}", guest.id), name, shares);
        let (scopes, upstreams) = (guest.scopes.clone(), guest.upstreams.clone());
        Principal(Arc::new(Identity { scopes, upstreams, ..identity }))
    }

    /// Issuer, subject and client together are one (2026-07-28, basic/authorization).
    pub(super) fn of_claims(claims: &super::jwt::Claims, rules: u64, shares: &Shares) -> Principal {
        let id = format!("jwt {:?} {:?} {:?}", claims.iss, claims.sub, claims.client());
        let identity = Identity::new(Kind::Jwt, id, &claims.sub, shares);
        Principal(Arc::new(Identity { scopes: claims.scopes(), audience: claims.audience(), rules, ..identity }))
    }

    /// What tells it from all others, such as `token:ci`: what sessions, streams and processes belong to.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// How it showed who it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What the operator or the provider calls it; in the log, the audit and the status.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name, for what outlives the principal.
    pub fn shared_name(&self) -> Arc<str> {
        self.0.name.clone()
    }

    /// What it takes of what all share.
    pub fn share(&self) -> &Arc<Share> {
        &self.0.share
    }

    /// Whether it has shown who it is: only then can it be told from others, and be bounded alone.
    pub fn is_known(&self) -> bool {
        !matches!(self.0.kind, Kind::Local | Kind::Anyone)
    }

    pub(super) fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|own| own == scope)
    }

    pub(super) fn is_for(&self, audiences: &[String]) -> bool {
        self.0.audience.iter().any(|own| audiences.contains(own))
    }

    pub(super) fn is_let_to(&self, upstream: &str) -> bool {
        self.0.upstreams.as_ref().is_none_or(|names| names.iter().any(|name| name == upstream))
    }

    pub(super) fn is_of(&self, rules: u64) -> bool {
        self.0.rules == rules
    }

    pub(super) fn matches(&self, grant: &Grant) -> bool {
        let named = |kind: Kind, name: &str| self.0.kind == kind && self.0.exact == name;
        match grant {
            Grant::All => true,
            Grant::Name(name) => named(Kind::Token, name) || self.has_scope(name),
            Grant::Token(name) => named(Kind::Token, name),
            Grant::Scope(scope) => self.has_scope(scope),
            Grant::Subject(name) => named(Kind::Jwt, name),
            Grant::Certificate(name) => named(Kind::Certificate, name),
            Grant::User(name) => named(Kind::Forwarded, name) || named(Kind::Guest, name),
        }
    }
}

impl Default for Principal {
    /// Whoever is at our own stdin, or calls an embedded hub that asks nobody.
    fn default() -> Self {
        Principal::local(&Shares::default())
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.0.kind, self.0.name)
    }
}
