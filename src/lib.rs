//! hubward: one daemon, many MCP servers, each at its own URL.
//!
//! This page is the architecture: the words, the layers, and the two paths that matter, of a request and of a
//! reload. Each file begins with its idea. Programs build on [`embed`]; docs.rs shows nothing else.
//!
//! # The one idea
//!
//! > Everything is a [`Link`]: two bounded queues of messages.
//!
//! A child process is a Link. A remote URL is a Link. Our own stdin and stdout are a Link; [`link::pair`] makes one out
//! of nothing, for tests.
//! A [`Connection`] is a Link that many callers share, because it knows which answer belongs to whom.
//! A caller holds a [`Reply`]: *dropping the Reply is the cancellation*.
//! Actors decide **whether** there is a Connection; they never see **what** passes through it.
//!
//! # Layers, and who may know whom
//!
//! ```text
//! main → cli → run → embed → server → hub → bridge → link → auth → wire
//!                ├─ admin  → hub
//!                └─ shutdown
//! config: known by cli, run, embed, server, admin, hub, observe knows nobody
//! auth: known by cli, embed, hub, link, access          knows nobody of these
//! access: known by embed, server, hub                   knows config, auth
//! observe: known by cli, server, hub, admin             knows config, wire
//! ```
//!
//! | folder | the noun of its question |
//! |---|---|
//! | [`wire`] | bytes and their meaning: [`wire::message`], [`wire::revision`], [`wire::lines`]; [`wire::trouble`] is what clients are told where a server is of no help. Pure: no I/O, no clock |
//! | [`config`] | from the text of `hub.toml` to a [`Config`], from two of them to a [`Plan`](config::Plan); [`config::snippet`]: what clients have to be told; [`config::import`]: what they were told before. Pure, but for [`config::read`], [`config::find`] and [`config::watch`] |
//! | [`link`] | ways to reach a peer. [`link::process`] is a child: `pump.rs` moves bytes at its pipes, `ladder.rs` sees its end through, `stderr.rs` keeps its last words, [`link::orphans`] finds what it left behind, [`link::keeper`] cleans up when the hub is killed, [`link::sandbox`] bounds what it may reach. [`link::remote`] is a server somewhere else: `exchange.rs` sends, `answer.rs` hears, `session.rs` opens what was lost, `sse.rs` is HTTP+SSE. [`link::tunnel`] lets others in. [`link::stdio`] is ourselves, [`link::streams`] two byte streams, [`link::inside`] a server in this program. [`link::connection`] makes one Link serve many, [`link::tap`] lets others look on, [`link::proxy`] joins two |
//! | [`auth`] | with what remote servers are asked, and how a token is come by and kept: [`auth::oauth`], [`auth::store`] |
//! | [`access`] | who knocks, and where they may come in: a request's credentials become a [`access::Principal`], or a refusal |
//! | [`bridge`] | what every caller sees of every upstream, whatever its era and the client's: its table of the four ways |
//! | [`hub`] | who lives, who restarts, who is published, who shares a process; [`hub::view`] is what is shown of it, [`hub::board`] tells those who watch, [`hub::visits`] an embedding program |
//! | [`server`] | the HTTP front: guards, the two faces, streams, and errors turned into statuses. [`server::dashboard`] is the status page |
//! | [`admin`] | the way for commands to the running hub: a unix socket, one command each connection |
//! | [`embed`] | a hub as a part of a program, from its listeners to its last process: the public face (`docs/library.md`) |
//! | [`run`] | what a process of its own adds: keeper, admin socket, systemd ([`run::passed`], [`run::notify`]); [`shutdown`] turns signals into one token |
//! | [`cli`] | one file per command: flags, one library call, print. [`cli::ask`] is the one-shot client, without a hub |
//! | [`observe`] | [the log](observe::log), [the audit](observe::audit), [the last lines of each upstream](observe::journal), what is [counted](observe::meter) of each call and [shown](observe::metrics) of it, and [traces](observe::trace), which the feature `otel` exports |
//!
//! - `link` does not know that there is a hub, a configuration or an HTTP server. It takes a [`ProcessSpec`] or a
//!   [`link::remote::RemoteSpec`].
//! - The word `actix` stands in `hub/mod.rs`, `hub/upstream.rs`, `hub/tether.rs`, `server/`, `embed/`,
//!   `run.rs` and `shutdown.rs` only; `actix_web_lab` in `server/stream.rs` only. `link` gets a `tokio::runtime::Handle`.
//! - `reqwest` stands in `link/remote/`, `link/tunnel.rs`, `auth/`, `access/`, `observe/otel/` only;
//!   `opentelemetry` in `observe/otel.rs` and its folder only.
//! - Revision dates stand in `wire/revision.rs` and in what speaks as a peer (`cli/demo`) only: every question "may
//!   this revision …?" is a method of [`wire::Revision`].
//!
//! `tests/tidy.rs` reads the sources and checks this, so the drawing cannot rot.
//!
//! # Words
//!
//! | word | means | never say |
//! |---|---|---|
//! | **upstream** | a named MCP server behind us | backend, target, provider |
//! | **client** | whoever calls us | downstream, consumer |
//! | **server** | our HTTP front | |
//! | **message** | one JSON-RPC object, as bytes | frame, packet, payload |
//! | **call** | a request in flight, and its Reply | transaction |
//! | **link** | two bounded queues to one peer | transport, channel, pipe |
//! | **connection** | a link shared by calls | |
//! | **session** | what a client calls by `Mcp-Session-Id`, or by its event stream | conversation |
//! | **revision** | a dated version of the protocol | v1, old, new |
//! | **route** | what a name in the URL leads to; its URL is its *mount* | endpoint |
//! | **instance** | one process of an upstream, or one connection to it, from its start to its end | |
//! | **principal** | the authenticated caller | user |
//! | **peer** | whatever is at the other end of a link | |
//! | **plan**, **generation** | the difference to apply; the count of applied ones | patch, version |
//! | **retire**, **drain** | let one upstream, or everything, finish and end | kill, close |
//!
//! # Actors
//!
//! [`Hub`](hub::Hub), one, on the main thread: owns the current [`Config`], the upstreams, and the writing end of the
//! route table. It obeys [`Reload`](hub::Reload) (the watcher, SIGHUP, the admin socket), [`Act`](hub::act::Act) (stop, …), [`Apply`](hub::Apply) (all else) and [`Drain`](hub::Drain), and hears [`Proved`](hub::upstream::Proved) from an upstream whose
//! new definition works or does not, and [`Ended`](hub::tether::Ended) from a tether whose actor is gone.
//!
//! [`Upstream`](hub::upstream::Upstream), one per name: owns its definition, its [`Lifecycle`](hub::lifecycle), and
//! its instances. It obeys `Connect` (a request found no connection), [`Prove`](hub::upstream::Prove) (start one to
//! see whether it works), [`Adopt`](hub::upstream::Adopt) (a change in place), [`Launch`](hub::upstream::Launch) and
//! [`Halt`](hub::upstream::Halt) (the operator's wish) and [`Retire`](hub::upstream::Retire).
//! It is a thin shell: messages become events of [`hub::lifecycle`], a pure function of state, event and time; its
//! effects become tasks.
//!
//! Everything else is data: a [`Route`](hub::routes::Route) behind an `Arc`, the [table](hub::routes::RouteTable)
//! that is swapped whole, a [`Session`](hub::session::Session) in its route's [`Audience`](hub::audience::Audience).
//!
//! Five facts about actix 0.13 shape this. A panic in a handler ends the actor for good. `Supervisor` does not bring
//! it back. A value dropped with the actor can tell its owner; that is the [`Tether`](hub::tether::Tether).
//! `do_send` ignores the mailbox's capacity. A mailbox is emptied before the actor's own timers run. Hence:
//! `try_send` or `send`; `do_send` only in the Tether and for the few orders that may neither be lost nor overtake one
//! another; no I/O in a handler; no data in a mailbox.
//!
//! **Actors for lifecycle and control, channels for messages, a swapped table between them.** One actor is one
//! thread; a mailbox has no back-pressure that reaches a client; a panic in an actor must cost a restart decision and
//! not every call in flight.
//!
//! # The path of a request
//!
//! `POST /time/mcp`, a `tools/call`, the upstream a child process.
//!
//! 1. **Socket.** A worker of [`server::accept`]; [`server::tls`] looks up the certificate of the moment at each handshake.
//!    `h1_allow_half_closed(false)`: a client that leaves is noticed at once; over HTTP/2 [`server::gone`] notices.
//! 2. [`server::guard`]: Host and Origin, then content type and declared length. A browser's
//!    preflight ends here, and [`server::cors`] lets the page read whatever the answer will be.
//! 3. [`server::path`]: which mount, which face of it. Bytes are compared as they came; a path has one spelling.
//!    [`server::door`]: what the request shows becomes a [principal](access::Principal), or 401 with where to go.
//! 4. [`hub::routes`]: the name gives an `Arc<Route>`, or 404. From here the request owns its route, whatever a
//!    reload does. The door once more: may this principal use it?
//! 5. [`wire::message`]: the body, read up to the limit and within its deadline, becomes a [`Message`]: validated
//!    JSON, the bytes kept, the positions of the few members we look at.
//! 6. [`hub::session`]: the header names a session of this mount and this principal; `initialize` makes one. Where the
//!    hub keeps none (`stateless`), [`server::sessionless`].
//! 7. [`hub::dispatch`]: some things the hub settles itself (`ping`, shared subscriptions, levels, calls that
//!    [`hub::tools`] refuses), all else is forwarded as it came.
//! 8. [`hub::isolation`]: which connection. The session's own, one leased from the pool, or the shared one. None? Then
//!    the one slow path: `Connect`, to the actor.
//! 9. [`link::connection`]: take the next id, put it into the pending table, splice it into the bytes, queue them. A
//!    slow child slows its callers, not the hub.
//! 10. `link/pump.rs`, the writer: all that waits, at once. … The child. … The reader: [`wire::lines`], each within its limit.
//! 11. [`link::connection`] again: a response leaves the pending table and gets its own id back. Progress goes to its
//!     call; a question to the call it belongs to; the rest to [`hub::audience`].
//! 12. [`server::stream`]: the first event decides. A lone response becomes plain JSON; anything else opens an event
//!     stream, which [`hub::replay`] keeps for clients that come back.
//! 13. **The end.** The response ends the call. A client that leaves does not: its session keeps the calls, and their
//!     answers wait. `notifications/cancelled`, the end of the session or the time limit drops the Reply, and that
//!     tells the upstream.
//! 14. An error anywhere is a value of its module's enum; [`server::rescue`] alone knows statuses. What is no mistake in the
//!     request becomes a [`Trouble`](wire::trouble::Trouble), which alone is printed.
//!
//! Steps 9 and 11 are where a message leaves and enters: there the upstream's [`Recorder`](link::tap::Recorder) shows it to
//! those who look on (`hubward tap`), and costs the load of an empty pointer where nobody does.
//!
//! Where requests are traced, the span of each begins with its record in step 7; with step 9 begins the one of its leg to
//! the upstream, whose place in the trace is put into the message ([`wire::trace`]) before its id is.
//!
//! Where the upstream is somewhere else, step 10 is [`link::remote`]: each request is an HTTP exchange of its own, with
//! credentials put on by [`auth::Credentials`]; what comes on its stream is about it, so step 11 need not guess. Where the
//! client is at our own stdin (`hubward connect`), [`server::stdio`] stands in place of steps 1 to 6 and 12.
//!
//! # The path of a reload
//!
//! 1. Something stirs in the folder of the file, or of what it links to; or SIGHUP, or `hubward reload`.
//!    All become `Reload`.
//! 2. [`config::read`]: the text becomes a [`Config`], or a drawn report and nothing else: everything runs on as it was.
//! 3. [`mod@config::plan`]: two Configs become a [`Plan`](config::Plan). A key that needs a new process (`bind`,
//!    `workers`, `connections_max`) refuses the *whole* plan by name. What changes in place and what replaces a
//!    process is one exhaustive `match` over the fields: a new field does not compile until someone decides.
//! 4. **Prepare** what nobody sees: actors, not started.
//! 5. **Publish**: one store of a new table. Kept names carry over the same `Arc<Route>`; their calls, sessions and
//!    processes are untouched.
//! 6. **Start** the eager ones, **retire** the removed. A replaced upstream with a live process keeps serving until
//!    its successor has proved itself; then the successor takes over the route, and the audience with it.
//! 7. **Tell**: the generation, the hash, the time, for `/api/v1/status`.
//!
//! A renewed certificate is no reload: its files are watched by themselves, and [`hub::certificate`] puts what they hold
//! in place of what they held, even while an edit of `hub.toml` lies there rejected.
//!
//! # Eras
//!
//! A caller of an upstream sees one thing, whatever the upstream speaks: a **call** that yields *events* until its
//! response. An older server puts questions among them. A newer one ends its call with `input_required`;
//! [`hub::rounds`] puts the questions in its name and sends the call again with the answers. An older client gets a
//! question as a request on the call's stream ([`server::stream`]), a newer one as the end of its request, and the call
//! waits in [`hub::parking`] for the retry. Between a newer client and a newer server nothing waits.
//!
//! The client's era is a property of each message ([`wire::envelope`]), the upstream's of the upstream
//! ([`bridge::era`], asked by [`bridge::handshake`]); neither is derived from the other. [`hub::crossing`] is where a
//! call changes its revision; how, is in [`bridge`]. Changes that a newer server tells come by one `subscriptions/listen`
//! of the hub's ([`bridge::feed`]), and reach clients by the same [`hub::audience`] as any other's. A server elsewhere may
//! be a hub too, where each client has a process: there resources are subscribed to in the client's own name.
//!
//! # Threads
//!
//! | thread | runs |
//! |---|---|
//! | main | the actix `System`: Hub and Upstreams; forks the children, because Linux ties a child's parent-death signal to the *thread* that forked it |
//! | workers | those of the one server: guards, parsing, calls, streams, **and both ends of each child's pipes** |
//! | blocking | reading files |
//! | watcher, log, audit, stderr files, systemd, tunnel | one thread each |
//!
//! A call stays on few threads: to wake one costs more than the rest of its way through the hub. So each worker gives
//! its runtime's handle to the [`Engine`](hub::engine::Engine), and a child's pipes are at [home](link::home) there, or
//! where all its callers are. A worker's runtime ends with its server: hence one as long as the process.
//!
//! # Habits
//!
//! - Plan, then publish: nothing visible changes until everything that can fail has succeeded.
//! - Pure core, thin shell. If a test needs a socket, the decision may belong one layer down.
//! - One way in: the first start and every reload, a file and an embedding program use the same function.
//! - Forward bytes, not trees. What we do not understand passes unchanged.
//! - Every queue, body, line, wait and table has a maximum, with the reason beside it.
//! - Fail at the border with the name of the thing and the next step; inside, fail by type.
//! - Comments are sentences and say why. No `unwrap` or `expect` outside tests and proofs.
//! - Locks are `std`, held for a few lines, never over an `.await`.
//! - A rule that a machine can check is checked, by `tests/tidy.rs`, `clippy.toml` or `deny.toml`.

pub mod access;
pub mod admin;
pub mod auth;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod embed;
pub mod hub;
pub mod link;
pub mod observe;
pub mod run;
pub mod server;
pub mod shutdown;
pub mod wire;

pub use embed::*;
pub use link::{
    connection::{Connection, Reply},
    process::ProcessSpec,
};
pub use run::{Running, on_system};
pub use wire::Message;
