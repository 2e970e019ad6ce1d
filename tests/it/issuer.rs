//! A protected MCP server and its authorization server, scripted, at one address.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub type Form = BTreeMap<String, String>;

/// The two of them. Clones are the same.
#[derive(Clone)]
pub struct Issuer {
    pub base: String,
    pub state: Arc<Mutex<State>>,
}

/// What it does, and what it was asked.
#[derive(Default)]
pub struct State {
    /// No metadata of the resource.
    pub unannounced: bool,
    /// The path of the issuer.
    pub tenant: &'static str,
    /// Members of the authorization server's metadata that are other than usual; null: not there.
    pub metadata: Value,
    /// Other answers than usual, by path: status, headers and body.
    pub answers: HashMap<String, (u16, String, String)>,
    /// The scope that calls need.
    pub scope: Option<String>,
    /// Nothing that is given is taken.
    pub refuses_all: bool,
    /// What comes back from the page besides the state.
    pub reply: Option<String>,
    /// The life of a token, in seconds.
    pub life: Option<u64>,
    /// Logins give no refresh token.
    pub no_refresh: bool,
    pub access: HashSet<String>,
    pub refresh: HashSet<String>,
    pub clients: HashMap<String, Value>,
    pub count: u32,
    /// Path and query or form, in order.
    pub seen: Vec<(String, Form)>,
    /// The `Authorization` of token requests.
    pub proofs: Vec<String>,
    asked_scope: String,
}

impl Issuer {
    pub async fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Issuer { base, state: Arc::default() };
        let serving = issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        issuer
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn url(&self) -> String {
        format!("{}/mcp", self.base)
    }

    /// How often a path was asked.
    pub fn count(&self, path: &str) -> usize {
        self.state().seen.iter().filter(|(seen, _)| seen == path).count()
    }

    /// What a path was asked last.
    pub fn last(&self, path: &str) -> Form {
        self.state().seen.iter().rev().find(|(seen, _)| seen == path).map(|(_, form)| form.clone()).unwrap_or_default()
    }

    /// How often a grant was asked for.
    pub fn grants(&self, grant: &str) -> usize {
        let is =
            |(path, form): &&(String, Form)| path == "/token" && form.get("grant_type").is_some_and(|one| one == grant);
        self.state().seen.iter().filter(is).count()
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        let (head, body) = loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break (head.to_owned(), body.to_owned());
                }
            }
            match stream.read(&mut chunk).await? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&chunk[..count]),
            }
        };
        let (status, headers, body) = self.answer(&head, &body);
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await
    }

    fn answer(&self, head: &str, body: &str) -> (u16, String, String) {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let form = |text: &str| url::form_urlencoded::parse(text.as_bytes()).into_owned().collect::<Form>();
        let mut asked = form(query);
        let parsed: Value = serde_json::from_str(body).unwrap_or_default();
        match parsed.as_object() {
            Some(members) => asked.extend(
                members
                    .iter()
                    .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))),
            ),
            None => asked.extend(form(body)),
        }
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let mut state = self.state();
        state.seen.push((path.to_owned(), asked.clone()));
        if let Some(answer) = state.answers.get(path) {
            return answer.clone();
        }
        let json = |status: u16, value: Value| (status, String::new(), value.to_string());
        let error = |code: &str| json(400, json!({"error": code, "error_description": "as the test wants it"}));
        let name = format!("{}{}", self.base, state.tenant);
        match (method, path) {
            ("POST", "/mcp") => {
                let token = header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
                let known = token.is_some_and(|token| state.access.contains(&token)) && !state.refuses_all;
                let metadata = match state.unannounced {
                    true => String::new(),
                    false => format!(", resource_metadata=\"{}/.well-known/oauth-protected-resource/mcp\"", self.base),
                };
                if !known {
                    return (401, format!("WWW-Authenticate: Bearer realm=\"r\"{metadata}\r\n"), String::new());
                }
                if let Some(scope) =
                    state.scope.clone().filter(|scope| !state.asked_scope.split(' ').any(|one| one == scope))
                {
                    let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"{metadata}");
                    return (403, format!("WWW-Authenticate: {challenge}\r\n"), String::new());
                }
                // As much of a server as a greeting needs.
                let result = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
                    "serverInfo": { "name": "protected", "version": "1" } });
                match (parsed["method"].as_str(), &parsed["id"]) {
                    (None, _) => json(200, json!({})),
                    (_, Value::Null) => json(202, json!({})),
                    (Some("server/discover"), id) => {
                        json(200, json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "no" } }))
                    }
                    (_, id) => json(200, json!({ "jsonrpc": "2.0", "id": id, "result": result })),
                }
            }
            ("GET", "/.well-known/oauth-protected-resource/mcp") if !state.unannounced => json(
                200,
                json!({"resource": self.url(), "authorization_servers": [name], "scopes_supported": ["basic"]}),
            ),
            ("GET", path) if path == format!("/.well-known/oauth-authorization-server{}", state.tenant) => {
                let mut metadata = json!({
                    "issuer": name,
                    "authorization_endpoint": format!("{}/authorize", self.base),
                    "token_endpoint": format!("{}/token", self.base),
                    "registration_endpoint": format!("{}/register", self.base),
                    "revocation_endpoint": format!("{}/revoke", self.base),
                    "code_challenge_methods_supported": ["S256"],
                    "authorization_response_iss_parameter_supported": true,
                });
                for (key, value) in state.metadata.as_object().into_iter().flatten() {
                    metadata[key] = value.clone();
                }
                json(200, metadata)
            }
            ("POST", "/register") => {
                state.count += 1;
                let id = format!("client{}", state.count);
                let mut client = parsed;
                client["client_id"] = json!(id);
                client["registration_client_uri"] = json!(format!("{}/clients/{id}", self.base));
                client["registration_access_token"] = json!(format!("manage-{id}"));
                state.clients.insert(id, client.clone());
                json(201, client)
            }
            (_, path) if path.starts_with("/clients/") => {
                let id = path.trim_start_matches("/clients/").to_owned();
                let Some(mut client) = state.clients.remove(&id) else { return json(401, json!({})) };
                if header("authorization")
                    != Some(format!("Bearer {}", client["registration_access_token"].as_str().unwrap()))
                {
                    state.clients.insert(id, client);
                    return json(401, json!({}));
                }
                match method {
                    "DELETE" => return (204, String::new(), String::new()),
                    "PUT" => {
                        let managed = client.clone();
                        client = parsed;
                        client["registration_client_uri"] = managed["registration_client_uri"].clone();
                        // A new one with each change.
                        client["registration_access_token"] =
                            json!(format!("{}x", managed["registration_access_token"].as_str().unwrap()));
                    }
                    _ => {}
                }
                state.clients.insert(id, client.clone());
                json(200, client)
            }
            ("GET", "/authorize") => {
                state.asked_scope = asked.get("scope").cloned().unwrap_or_default();
                let reply = state.reply.clone().unwrap_or_else(|| format!("code=c&iss={name}"));
                let location = format!("{}?state={}&{reply}", asked["redirect_uri"], asked["state"]);
                (302, format!("Location: {location}\r\n"), String::new())
            }
            ("POST", "/device") => json(
                200,
                json!({"device_code": "d", "user_code": "ABCD", "verification_uri": format!("{}/type", self.base),
                    "expires_in": 60, "interval": 0}),
            ),
            ("POST", "/token") => {
                state.proofs.push(header("authorization").unwrap_or_default());
                let client = asked.get("client_id").cloned();
                if client.is_some_and(|id| id.starts_with("client") && !state.clients.contains_key(&id)) {
                    return error("invalid_client");
                }
                match asked["grant_type"].as_str() {
                    "refresh_token" if !state.refresh.remove(&asked["refresh_token"]) => return error("invalid_grant"),
                    "urn:ietf:params:oauth:grant-type:device_code" if state.count < 100 => {
                        state.count += 50;
                        return error("authorization_pending");
                    }
                    _ => {}
                }
                state.count += 1;
                let (access, refresh) = (format!("access{}", state.count), format!("refresh{}", state.count));
                state.access.insert(access.clone());
                let mut token = json!({"access_token": access, "token_type": "Bearer"});
                if !state.no_refresh && asked["grant_type"] != "client_credentials" {
                    state.refresh.insert(refresh.clone());
                    token["refresh_token"] = json!(refresh);
                }
                if let Some(life) = state.life {
                    token["expires_in"] = json!(life);
                }
                json(200, token)
            }
            ("POST", "/revoke") => json(200, json!({})),
            _ => json(404, json!({})),
        }
    }
}
