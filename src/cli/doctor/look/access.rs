//! Who else may ask, and who says who may: Host, Origin, CORS, and the metadata of logins.

use serde_json::{Value, json};
use url::Url;

use super::{BOTH, NOBODY, Patient, Probes, WITHIN, request};
use crate::{
    cli::{
        ask::plain,
        doctor::seen::{Metadata, Page, Seen},
    },
    link::remote::probe::Question,
};

impl Probes {
    /// Host, Origin and CORS: who else may ask.
    pub(super) async fn strangers(&self, seen: &mut Seen, base: &str, patient: &Patient) {
        let ping = || Some(request("ping", json!({})));
        let plain = seen.answer.as_ref().and_then(|answer| answer.as_ref().ok()).is_some_and(|a| a.version != "HTTP/2");
        if plain && let Ok(heard) = self.ask("POST", &self.url, &[BOTH, ("host", NOBODY)], ping()).await {
            seen.foreign_host = Some(heard.status);
        }
        let stranger = format!("https://{NOBODY}");
        let Ok(heard) = self.ask("POST", &self.url, &[BOTH, ("origin", &stranger)], ping()).await else { return };
        seen.foreign_origin = Some(heard.status);
        let own = [base.to_owned()];
        let origins = if patient.origins.is_empty() { &own[..] } else { &patient.origins };
        for origin in origins {
            let Ok(heard) = self.ask("POST", &self.url, &[BOTH, ("origin", origin)], ping()).await else { continue };
            let wish = [
                ("origin", origin.as_str()),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization, content-type, mcp-protocol-version, mcp-session-id"),
            ];
            let question = Question { method: "OPTIONS", url: &self.url, headers: &wish, body: None };
            let preflight = self.prober.ask(&question, WITHIN);
            let Ok(preflight) = preflight.await else { continue };
            seen.pages.push(Page {
                origin: origin.clone(),
                status: heard.status,
                preflight: preflight.status,
                allows: preflight.header("access-control-allow-origin").map(plain::line),
            });
        }
    }

    pub(super) async fn metadata(&self, base: &str, path: &str) -> Option<Metadata> {
        let place = "/.well-known/oauth-protected-resource";
        let path = path.trim_end_matches('/');
        let mut found = self.text("GET", &format!("{base}{place}{path}"), &[]).await?;
        if found.0 != 200 {
            found = self
                .text("GET", &format!("{base}{place}"), &[])
                .await
                .filter(|(status, _)| *status == 200)
                .unwrap_or(found);
        }
        let document: Value = serde_json::from_str(&found.1).unwrap_or_default();
        let issuers = document["authorization_servers"].as_array().into_iter().flatten();
        let issuers: Vec<String> = issuers.filter_map(|issuer| issuer.as_str().map(plain::line)).collect();
        let issuer_error = match issuers.first() {
            Some(issuer) => self.issuer(issuer).await,
            None => None,
        };
        Some(Metadata {
            status: found.0,
            resource: document["resource"].as_str().map(plain::line),
            issuers,
            issuer_error,
        })
    }

    /// Why an authorization server tells nothing of itself (RFC 8414, OpenID Connect Discovery).
    async fn issuer(&self, issuer: &str) -> Option<String> {
        let Ok(url) = issuer.parse::<Url>() else { return Some("its name is no URL".into()) };
        let (base, path) = (url.origin().ascii_serialization(), url.path().trim_end_matches('/').to_owned());
        let mut why = String::new();
        for place in [
            format!("{base}/.well-known/oauth-authorization-server{path}"),
            format!("{base}/.well-known/openid-configuration{path}"),
            format!("{base}{path}/.well-known/openid-configuration"),
        ] {
            // It is somebody else: nothing of what we were given is for them.
            let question = Question { method: "GET", url: &place, headers: &[], body: None };
            match self.prober.bare().ask(&question, WITHIN).await {
                Ok(heard) if heard.status == 200 => return None,
                Ok(heard) => why = format!("HTTP {} at {place}", heard.status),
                Err(error) => why = error,
            }
        }
        Some(why)
    }
}
