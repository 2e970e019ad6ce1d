//! A server of 2025-11-25 over HTTP that answers whatever a test wants it to.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

/// Ends with the test.
pub struct Peer {
    pub url: String,
    /// The methods it was asked.
    pub asked: Arc<Mutex<Vec<String>>>,
    /// The heads of the requests.
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// `answer`: the `result` or `error` of a request, by its method and parameters.
    pub fn start(answer: impl Fn(&str, &Value) -> Value + Send + 'static) -> Peer {
        Peer::with(move |method, params| (200, answer(method, params)))
    }

    /// The same with a status.
    pub fn with(answer: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (asked, heads) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let peer = Peer { url, asked: asked.clone(), heads: heads.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some((head, message)) = request(&stream) else { continue };
                heads.lock().unwrap().push(head);
                let method = message["method"].as_str().unwrap_or_default().to_owned();
                asked.lock().unwrap().push(method.clone());
                let (status, body) = match method.as_str() {
                    "" => (405, String::new()),
                    _ if message.get("id").is_none() => (202, String::new()),
                    method => {
                        let (status, mut answer) = answer(method, &message["params"]);
                        if answer.is_null() && method == "initialize" {
                            answer = greeting();
                        }
                        (status, response(&message["id"], answer).to_string())
                    }
                };
                reply(stream, status, &body);
            }
        });
        peer
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn greeting() -> Value {
    json!({ "result": { "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
        "serverInfo": { "name": "peer\u{1b}[2J", "version": "1" } } })
}

fn response(id: &Value, answer: Value) -> Value {
    let mut response = json!({ "jsonrpc": "2.0", "id": id });
    match answer {
        Value::Object(members) => response.as_object_mut().unwrap().extend(members),
        _ => response["error"] = json!({ "code": -32601, "message": "not here" }),
    }
    response
}

fn request(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).unwrap_or_default()))
}

fn reply(mut stream: TcpStream, status: u16, body: &str) {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\n{kind}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}
