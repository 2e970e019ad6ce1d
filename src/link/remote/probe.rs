//! One HTTP request and what came of it, for those who look after a server instead of using it.
//!
//! No redirect is followed, nobody is asked to log in, nothing is tried again: what is seen is what is there.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{Client, Method, Response, Version, redirect::Policy};
use tokio::time::timeout_at;

use super::{HttpSpec, builder};
use crate::auth::{Credentials, cause};

/// Asks.
#[derive(Clone, Debug)]
pub struct Prober {
    client: Client,
    credentials: Arc<Credentials>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<String>,
}

/// The head of an answer; its body is still to come.
#[derive(Debug)]
pub struct Heard {
    pub status: u16,
    pub version: &'static str,
    /// By their names in small letters.
    pub headers: Vec<(String, String)>,
    response: Response,
}

impl Prober {
    /// `socket`: over this one in the file system, wherever the URL leads.
    pub fn new(spec: &HttpSpec, socket: Option<&Path>) -> Result<Prober, String> {
        let builder = builder(spec)?.redirect(Policy::none());
        #[cfg(unix)]
        let builder = match socket {
            Some(socket) => builder.no_proxy().unix_socket(socket.to_owned()),
            None => builder,
        };
        #[cfg(not(unix))]
        let _ = socket;
        let client = builder.build().map_err(|error| format!("the HTTP client cannot be made: {}", cause(&error)))?;
        Ok(Prober { client, credentials: Arc::default() })
    }

    /// The same with credentials that are there already. Nobody is asked to log in.
    pub fn with(self, credentials: Arc<Credentials>) -> Prober {
        Prober { credentials, ..self }
    }

    /// The same without any.
    pub fn bare(&self) -> Prober {
        Prober { client: self.client.clone(), credentials: Arc::default() }
    }

    /// Asks, and waits that long for the head of the answer.
    pub async fn ask(&self, question: &Question<'_>, within: Duration) -> Result<Heard, String> {
        let method = Method::from_bytes(question.method.as_bytes()).map_err(|error| error.to_string())?;
        let mut request = self.client.request(method, question.url);
        for (name, value) in question.headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = &question.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        let mut request = request.build().map_err(|error| cause(&error.without_url()))?;
        // Where there are none yet, what is asked for is to be seen.
        let _ = self.credentials.apply(&mut request).await;
        let answer = tokio::time::timeout(within, self.client.execute(request)).await;
        let response = answer.map_err(|_| format!("no answer within {} s", within.as_secs()))?;
        let response = response.map_err(|error| cause(&error.without_url()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Heard {
            status: response.status().as_u16(),
            version: match response.version() {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            headers: response
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            response,
        })
    }
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body so far when it is at its end, longer than `most`, as `enough` would have it, or not there in time.
    pub async fn body(mut self, most: usize, within: Duration, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let (mut body, end) = (Vec::new(), (Instant::now() + within).into());
        while let Ok(Ok(Some(chunk))) = timeout_at(end, self.response.chunk()).await {
            body.extend_from_slice(&chunk);
            if body.len() > most || enough(&body) {
                break;
            }
        }
        body
    }
}
