//! The processes of an upstream: what starts one, and what its start and its end mean for those who wait.

use super::{act::STOPPED, *};
use crate::link::remote::Transport;

impl Upstream {
    pub(super) fn spawn(&mut self, caller: Option<Connect>, context: &mut Context<Self>) {
        self.last_instance += 1;
        let number = self.last_instance;
        let session = caller.as_ref().and_then(|caller| caller.session.as_ref());
        let (greeting, attribution) = match (self.modern, self.isolation()) {
            (None, _) => (Greeting::Ask, Attribution::Strangers),
            (Some((true, _)), _) if self.far.is_some() => (Greeting::Modern, Attribution::Streams),
            (Some((true, _)), _) => (Greeting::Modern, Attribution::Strangers),
            (_, Isolation::Session) => {
                let greeting = session.and_then(|session| session.greeting());
                let hello = greeting.map_or_else(Hello::shared, |greeting| greeting.hello.clone());
                (Greeting::Legacy(hello), Attribution::OneClient)
            }
            (_, Isolation::Call) => (Greeting::Legacy(Hello::single_calls()), Attribution::Strangers),
            (_, Isolation::Shared) => match self.far.as_ref().map(|far| far.transport()) {
                Some(Transport::StreamableHttp) => (Greeting::Legacy(Hello::streams()), Attribution::Streams),
                // Whose a question is could not be told.
                _ => (Greeting::Legacy(Hello::shared()), Attribution::Strangers),
            },
        };
        let address = context.address();
        let spec = StartSpec {
            name: self.spec.name.clone(),
            config: self.spec.config.clone(),
            far: self.far.clone(),
            engine: self.spec.engine.clone(),
            number,
            serving: self.spec.serving.clone(),
            attribution,
            greeting,
            hear: self.listener(session),
            journal: self.spec.serving.journal.clone(),
            spawned: Box::new({
                let address = address.clone();
                move |peer| crate::hub::order(&address, Told::Spawned { number, peer })
            }),
            tasks: self.spec.tasks.clone(),
        };
        let (engine, alive, starts) = (self.spec.engine.clone(), self.alive.clone(), self.starts.clone());
        // Where the caller of a start leaves, the start is given up.
        let given_up = CancellationToken::new();
        let owner = session.map(Arc::downgrade).unwrap_or_default();
        let waiter = caller.map(|caller| watch_closed(caller.waiter, given_up.clone()));
        let running = Running { waiter, session: owner, given_up: given_up.clone(), peer: None, ready: None };
        self.instances.insert(number, running);
        tracing::info!(upstream = %self.spec.name, instance = number, "starting");
        self.note("starting", None, "starting");
        let began = Instant::now();
        let free = self.spec.free.clone();
        self.spec.tasks.spawn_local(async move {
            let start = async {
                free.cancelled().await;
                instance::start(spec).await
            };
            let started = tokio::select! {
                started = start => Some(started),
                () = alive.cancelled() => None,
                () = starts.cancelled() => None,
                () = engine.at_once.cancelled() => None,
                () = given_up.cancelled() => None,
            };
            let Some(started) = started else {
                let _ = address.send(Told::GivenUp { number }).await;
                return;
            };
            let (bridged, instance) = match started {
                Ok(Started::Ready(bridged, instance)) => (bridged, instance),
                Ok(Started::Again { modern }) => {
                    let _ = address.send(Told::Settled { number, modern }).await;
                    return;
                }
                Err(error) => {
                    let _ = address.send(Told::StartFailed { number, error }).await;
                    return;
                }
            };
            let watch = &instance.watch;
            let told = Told::Started { number, bridged, watch: watch.clone(), took: began.elapsed() };
            if address.send(told).await.is_err() {
                watch.close("its supervisor ended");
            }
            let (asked, why) = tokio::select! {
                end = instance.keep(&engine) => end,
                () = alive.cancelled() => {
                    watch.close("its supervisor ended");
                    instance.keep(&engine).await
                }
            };
            let stderr = instance.peer.stderr_tail(STDERR_LINES);
            let _ = address.send(Told::Lost { number, asked, why, stderr }).await;
        });
    }

    /// Who hears what a process says to no call in particular.
    pub(super) fn listener(&self, session: Option<&Arc<Session>>) -> Hear {
        let owner = session.map(Arc::downgrade);
        let audience = (self.isolation() == Isolation::Shared).then(|| self.spec.audience.clone());
        let (name, serving) = (self.spec.name.clone(), self.spec.serving.clone());
        Arc::new(move |message: WireMessage, whose: &Whose| {
            // What is remembered of a list goes before anybody reads the list again.
            if message.method() == "notifications/tools/list_changed" {
                serving.marks.store(None);
                serving.tools.doubt();
            }
            match (&audience, owner.as_ref().and_then(Weak::upgrade)) {
                (Some(audience), _) => audience.hear(&message, whose),
                (None, Some(session)) => session.hear(&message),
                // A process of the pool, between two clients.
                (None, None) => {
                    let method = message.method();
                    tracing::debug!(upstream = %name, method, "a message of a pooled process belongs to nobody")
                }
            }
        })
    }

    /// It is known what the upstream speaks: whoever waited is served accordingly.
    pub(super) fn settled(&mut self, number: u64, modern: bool, context: &mut Context<Self>) {
        self.instances.remove(&number);
        self.settle_era(Some(modern));
        self.life.forget_start();
        if self.proving {
            self.prove(context);
        }
        if self.is_shared() {
            return self.serve_waiters(context);
        }
        for connect in std::mem::take(&mut self.waiters) {
            self.seat(connect, context);
        }
    }

    pub(super) fn prove(&mut self, context: &mut Context<Self>) {
        self.proving = true;
        if self.is_stopped() {
            return self.proof(Err(STOPPED.into()));
        }
        if self.step(Event::Wanted, context) == Some(Effect::Spawn) {
            self.spawn(None, context);
        }
    }

    pub(super) fn started(
        &mut self,
        number: u64,
        bridged: Arc<Bridged>,
        watch: ConnectionWatch,
        took: Duration,
        context: &mut Context<Self>,
    ) {
        self.step(Event::Ready, context);
        self.spec.serving.meter.started(took);
        self.unauthorized = false;
        self.settle_era(Some(bridged.profile.is_modern()));
        let Some(running) = self.instances.get_mut(&number) else { return };
        let pid = running.peer.as_ref().and_then(Peer::pid);
        tracing::info!(upstream = %self.spec.name, instance = number, pid, "ready");
        running.ready = Some(watch);
        let waiter = running.waiter.take();
        self.note("ready", pid, "ready");
        self.spec.serving.profile.store(Some(bridged.profile.clone()));
        self.proof(Ok(()));
        match self.isolation() {
            Isolation::Shared => {
                self.bring_up_to_date(bridged.clone());
                self.spec.serving.connection.store(Some(bridged.clone()));
                if std::mem::take(&mut self.unheard) {
                    self.spec.audience.announce_new_lists(&bridged.profile);
                }
                for connect in self.waiters.drain(..) {
                    let _ = connect.waiter.send(Ok(bridged.clone()));
                }
            }
            Isolation::Call => match waiter {
                Some(waiter) => drop(waiter.send(Ok(bridged))),
                None => self.spec.serving.pool.put(bridged),
            },
            // Without a waiter it was a proof, and ends with this handle.
            Isolation::Session => drop(waiter.map(|waiter| waiter.send(Ok(bridged)))),
        }
    }

    /// Tells a new shared process what the clients told the last one.
    pub(super) fn bring_up_to_date(&self, bridged: Arc<Bridged>) {
        let (level, wanted) = (self.spec.audience.level(), self.spec.audience.subscribed());
        let level = level.filter(|_| bridged.profile.can(&["logging"]));
        self.spec.tasks.spawn_local(async move { bridged.bring_up_to_date(level.map(Level::as_str), wanted).await });
    }

    pub(super) fn start_failed(&mut self, number: u64, error: StartError, context: &mut Context<Self>) {
        tracing::warn!(upstream = %self.spec.name, instance = number, reason = %error.full, "did not start");
        let gone = self.instances.remove(&number);
        self.note("failed", gone.as_ref().and_then(Running::pid), format_args!("did not start: {}", error.full));
        let waiter = gone.and_then(|running| running.waiter);
        let was_modern = self.modern.is_some_and(|(modern, _)| modern);
        if self.spec.config.era == Era::Auto && (error.wrong_era || was_modern) {
            // It is another program by now: ask again.
            self.settle_era(None);
            self.far.iter().for_each(|far| far.forget());
        }
        self.unauthorized = error.unauthorized;
        if error.unauthorized {
            self.await_login(context);
        }
        let waiter = match waiter {
            // What it refused is this client's own greeting; others may be welcome.
            Some(waiter) if error.refused && self.isolation() == Isolation::Session => {
                self.life.forget_start();
                let refused = Unavailable::new(&self.spec.name, &error.public, None);
                let _ = waiter.send(Err(self.with_words(refused, &error.stderr)));
                return self.serve_queue(context);
            }
            waiter => waiter,
        };
        self.public = Some(error.public);
        self.stderr = error.stderr;
        let event = if error.unauthorized { Event::Unauthorized } else { Event::StartFailed };
        let effect = self.step(event(error.full.clone()), context);
        // Who hears of the failure finds it in the status.
        self.tell();
        let after = match effect {
            Some(Effect::WakeAt(at)) => Some(at.saturating_duration_since(Instant::now())),
            _ => None,
        };
        if let Some(waiter) = waiter {
            let _ = waiter.send(Err(self.unavailable(after)));
        }
        self.refuse_waiters(after);
        self.proof(Err(error.full));
        self.serve_queue(context);
    }

    /// Goes on as soon as somebody has logged in, here or in another process.
    fn await_login(&mut self, context: &mut Context<Self>) {
        let Some(far) = self.far.clone().filter(|_| !std::mem::replace(&mut self.awaits_login, true)) else { return };
        let (address, alive) = (context.address(), self.alive.clone());
        self.spec.tasks.spawn_local(async move {
            tokio::select! {
                () = far.credentials().renewed() => drop(address.send(Told::LoggedIn).await),
                () = alive.cancelled() => {}
            }
        });
    }

    pub(super) fn lost(
        &mut self,
        number: u64,
        asked: bool,
        why: String,
        stderr: Vec<String>,
        context: &mut Context<Self>,
    ) {
        let pid = self.instances.remove(&number).and_then(|running| running.pid());
        let asked = asked || self.retiring.is_some();
        self.note(if asked { "stopped" } else { "lost" }, pid, &why);
        if asked {
            tracing::info!(upstream = %self.spec.name, instance = number, "{why}");
            self.step(Event::Stopped, context);
        } else {
            tracing::warn!(upstream = %self.spec.name, instance = number, "{why}");
            self.stderr = stderr;
            self.public = Some(why.clone());
            // A client that kills its own process must not take the upstream from the others.
            let counts = self.is_shared();
            self.unheard = self.modern.is_some_and(|(modern, _)| modern);
            self.step(Event::Lost { why, counts }, context);
        }
        if self.is_shared() {
            let over = |current: &Option<Arc<Bridged>>| current.as_ref().is_none_or(|now| now.connection.is_over());
            if over(&self.spec.serving.connection.load_full()) {
                self.spec.serving.connection.store(None);
            }
            self.serve_waiters(context);
        }
        self.serve_queue(context);
    }

    #[expect(clippy::disallowed_methods, reason = "the Hub may be reading a file while many have something to say")]
    pub(super) fn proof(&mut self, outcome: Result<(), String>) {
        self.launched(&outcome);
        if std::mem::take(&mut self.proving) {
            let proved = Proved { name: self.spec.name.clone(), number: self.spec.tether.number, outcome };
            self.spec.proved.do_send(proved);
        }
    }
}

/// Passes a waiter's outcome on, and gives the start up when it left.
fn watch_closed(mut waiter: oneshot::Sender<Outcome>, given_up: CancellationToken) -> oneshot::Sender<Outcome> {
    let (to, from) = oneshot::channel();
    tokio::task::spawn_local(async move {
        tokio::select! {
            () = waiter.closed() => given_up.cancel(),
            outcome = from => {
                if let Ok(outcome) = outcome {
                    let _ = waiter.send(outcome);
                }
            }
        }
    });
    to
}
