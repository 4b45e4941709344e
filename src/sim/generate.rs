//! One generation request from admission to its last byte.

use std::{sync::Arc, time::Duration, vec::IntoIter};

use tokio::{sync::watch, time::Instant};

use super::{
    answer::Envelope,
    body::{Native, Said},
    cache::Task,
    engine::{Gate, Sim, SlotLease, unix_now},
    errors::{ApiError, KnownFailure},
    http::{Gone, Wire},
    info,
    plan::{self, Beat, Emit, TokenBeat},
    request::{Format, Kind, Request},
    rng::{self, Rng},
    schema,
    script::{ErrorStep, Step},
    tokens::{self, Token},
};

/// Time of a decode step, and of a prompt token, in `timings` when speed is unlimited.
const NOMINAL_STEP: Duration = Duration::from_micros(10);
const NOMINAL_PROMPT_MS: f64 = 0.002;

/// Why an answer ends before its plan does.
enum Ending {
    Gone,
    Failed(ApiError),
    Clean,
}

impl From<Gone> for Ending {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Answers a generation request.
pub(crate) async fn generate(
    sim: &Arc<Sim>,
    wire: &mut Wire,
    request: Request,
) -> Result<(), Gone> {
    if let Some(failure) = sim.take_failure() {
        return refuse(wire, &failure).await;
    }
    let chosen = sim
        .scripts
        .lock()
        .choose(&request, &sim.config.rules, &sim.config.name);
    let script = match chosen {
        Ok(script) => script,
        Err(error) => return wire.json(error.status, error.body()).await,
    };
    if let Some(early) = script.as_deref().and_then(early_end) {
        return match early {
            Early::Error(error) => refuse(wire, error).await,
            Early::Known(failure) => {
                let error = ApiError::known(failure);
                wire.json(error.status, error.body()).await
            }
            Early::Cut { reset } => Err(wire.cut(reset).await),
        };
    }
    if let Format::JsonSchema(wanted) = &request.format
        && let Some(odd) = schema::unknown_type(wanted)
    {
        let error = ApiError::invalid(format!(
            "Unable to generate parser for this template. Automatic parser generation failed: \
             JSON schema error at #: unrecognized type {odd}"
        ));
        return wire.json(error.status, error.body()).await;
    }
    let mut runs = match admit(sim, wire, &request, script).await? {
        Ok(runs) => runs,
        Err(error) => return wire.json(error.status, error.body()).await,
    };
    let mut session = Session::new(sim, wire, &request);
    match session.run(&mut runs).await {
        Ok(()) => session.complete(runs).await,
        Err(Ending::Failed(error)) => {
            drop(runs);
            session.fail(&error).await
        }
        Err(Ending::Clean) => {
            drop(runs);
            session.end().await
        }
        Err(Ending::Gone) => {
            if sim.live.lock().orphans {
                tokio::spawn(orphan(Arc::clone(sim), runs));
            }
            Err(Gone)
        }
    }
}

enum Early<'a> {
    Error(&'a ErrorStep),
    Known(KnownFailure),
    Cut { reset: bool },
}

/// What a script does before any byte is sent.
fn early_end(steps: &[Step]) -> Option<Early<'_>> {
    match steps.first() {
        Some(Step::Die) => return Some(Early::Cut { reset: false }),
        Some(Step::Reset) => return Some(Early::Cut { reset: true }),
        _ => {}
    }
    steps.iter().find_map(|step| match step {
        Step::HttpError(error) => Some(Early::Error(error)),
        Step::Fail(failure) => match failure {
            KnownFailure::TemplateSystem | KnownFailure::TemplateRoles | KnownFailure::Loading => {
                Some(Early::Known(*failure))
            }
            KnownFailure::KvOverflow | KnownFailure::PegParse | KnownFailure::Compute => None,
        },
        _ => None,
    })
}

async fn refuse(wire: &mut Wire, error: &ErrorStep) -> Result<(), Gone> {
    match &error.body {
        Some(body) => {
            wire.respond(
                error.status,
                "Content-Type: text/plain\r\n",
                body.as_bytes(),
            )
            .await
        }
        None => wire.json(error.status, error.api_error().body()).await,
    }
}

/// One choice of the answer being generated in its slot.
struct Run {
    index: usize,
    lease: SlotLease,
    beats: IntoIter<Beat>,
    finish: String,
    /// Simulated decode time so far.
    clock: Duration,
    said: Said,
    role_due: bool,
    send_done: bool,
    finished: bool,
}

/// Waits for slots and lays the answers out.
async fn admit(
    sim: &Arc<Sim>,
    wire: &mut Wire,
    request: &Request,
    script: Option<Vec<Step>>,
) -> Result<Result<Vec<Run>, ApiError>, Gone> {
    let mut permits = match wire.wait_for(sim.admit(request.n)).await? {
        Ok(permits) => permits,
        Err(error) => return Ok(Err(error)),
    };
    let prompt: Arc<[Token]> = tokens::encode(&request.prompt).into();
    if prompt.len() >= sim.config.n_ctx {
        return Ok(Err(ApiError::context(prompt.len(), sim.config.n_ctx)));
    }
    let most = sim.config.n_ctx - prompt.len();
    let room = request.limit.unwrap_or(most).min(most);
    let speculation = sim.live.lock().speculation.clone();
    let prompt_hash = rng::hash(request.prompt.as_bytes());
    let mut runs: Vec<Run> = Vec::with_capacity(request.n);
    for index in 0..request.n {
        let mut rng = Rng::seeded(&[
            sim.config.seed,
            prompt_hash,
            request.seed.unwrap_or(0),
            index as u64,
        ]);
        let steps = script
            .clone()
            .unwrap_or_else(|| plan::made_up(request, room, &mut rng));
        let plan = plan::lay_out(&steps, request, room, &speculation, &mut rng);
        let Some(permit) = permits.split(1) else {
            break;
        };
        let task = task(sim.next_task().0, request, prompt.len());
        let lease = SlotLease::take(sim, permit, &prompt, request.cache_prompt, task);
        let Some(mut lease) = lease else {
            return Ok(Err(ApiError::server("no slot for an admitted request")));
        };
        if let Some(first) = runs.first() {
            // Further choices start from a copy of the first one's prompt.
            lease.timings.cache_n = first.lease.timings.cache_n;
        }
        runs.push(Run {
            index,
            lease,
            beats: plan.beats.into_iter(),
            finish: plan.finish,
            clock: Duration::ZERO,
            said: Said::default(),
            role_due: plan.role,
            send_done: plan.done,
            finished: false,
        });
    }
    Ok(Ok(runs))
}

fn task(id: u64, request: &Request, prompt: usize) -> Task {
    Task {
        id,
        prompt,
        processed: 0,
        cached: 0,
        decoded: 0,
        limit: request.limit,
        stream: request.stream,
        chat: request.kind == Kind::Chat,
        temperature: request.temperature,
        seed: request.seed.unwrap_or(4_294_967_295),
        ignore_eos: request.ignore_eos,
    }
}

/// The state of one answer on its connection.
struct Session<'a> {
    sim: &'a Arc<Sim>,
    wire: &'a mut Wire,
    request: &'a Request,
    envelope: Envelope,
    gate: watch::Receiver<Gate>,
    faults: u64,
    /// When decoding began, moved by the time spent wedged.
    start: Instant,
    events: Vec<u8>,
}

impl<'a> Session<'a> {
    fn new(sim: &'a Arc<Sim>, wire: &'a mut Wire, request: &'a Request) -> Self {
        let id = format!("chatcmpl-{}", sim.next_task().1.id(32));
        let build = sim.live.lock().build_info.clone();
        let gate = sim.gate.subscribe();
        let faults = gate.borrow().faults;
        Self {
            sim,
            wire,
            request,
            envelope: Envelope::new(request, id, &sim.config.alias, &build, unix_now()),
            gate,
            faults,
            start: Instant::now(),
            events: Vec::with_capacity(1024),
        }
    }

    async fn run(&mut self, runs: &mut [Run]) -> Result<(), Ending> {
        if self.request.stream {
            self.wire
                .start_stream(self.request.ping.unwrap_or(self.sim.config.ping_interval));
        }
        self.prefill(runs).await?;
        self.start = Instant::now();
        while let Some(run) = runs
            .iter_mut()
            .filter(|run| !run.finished)
            .min_by_key(|run| run.clock)
        {
            match run.beats.next() {
                Some(Beat::Token(token)) => self.token(run, token).await?,
                Some(Beat::Pause(pause)) => {
                    run.clock += pause;
                    self.wire.wait_until(Some(Instant::now() + pause)).await?;
                }
                Some(Beat::Silence) => self.wire.wait_until(None).await?,
                Some(Beat::Garbage(text)) if self.request.stream => {
                    self.wire.chunk(text.as_bytes())
                }
                Some(Beat::Garbage(_)) => {}
                Some(Beat::Fail { error, after_role }) => {
                    if after_role {
                        self.role(run);
                    }
                    return Err(Ending::Failed(error));
                }
                Some(Beat::Cut { reset }) => return Err(self.wire.cut(reset).await.into()),
                Some(Beat::End) => return Err(Ending::Clean),
                None => self.finish(run),
            }
        }
        Ok(())
    }

    /// Evaluates the prompt batch by batch.
    async fn prefill(&mut self, runs: &mut [Run]) -> Result<(), Ending> {
        let Some(first) = runs.first() else {
            return Ok(());
        };
        let total = tokens::count(&self.request.prompt);
        let todo = total - first.lease.timings.cache_n;
        let mut deadline = Instant::now();
        loop {
            self.progress(runs, total);
            let done = runs.first().map_or(todo, |run| run.lease.timings.prompt_n);
            if done >= todo {
                break;
            }
            let batch = self.sim.config.n_batch.min(todo - done);
            let tps = self.sim.live.lock().prefill_tps;
            let mut ms = batch as f64 * NOMINAL_PROMPT_MS;
            if tps > 0.0 {
                ms = batch as f64 / tps * 1e3;
                deadline += Duration::from_secs_f64(ms / 1e3);
                self.wire.wait_until(Some(deadline)).await?;
            }
            deadline += self.pass_gate().await?;
            for run in runs.iter_mut() {
                run.lease.timings.prompt_n += batch;
                run.lease.timings.prompt_ms += ms;
                run.lease.show();
            }
            self.check_faults()?;
        }
        let mut metrics = self.sim.metrics.lock();
        runs.iter()
            .for_each(|run| metrics.prompt_done(&run.lease.timings));
        Ok(())
    }

    fn progress(&mut self, runs: &[Run], total: usize) {
        if !(self.request.stream && self.request.return_progress) {
            return;
        }
        for run in runs {
            self.envelope
                .progress(&mut self.events, run.index, &run.lease.timings, total);
            self.send();
        }
    }

    /// Waits while the server is wedged or frozen.
    async fn pass_gate(&mut self) -> Result<Duration, Gone> {
        self.wire
            .wait_gate(&mut self.gate, |gate| gate.wedged || gate.frozen)
            .await
    }

    /// Fails when the shared cache overflowed since this request began.
    fn check_faults(&mut self) -> Result<(), Ending> {
        self.sim.check_cache();
        if self.gate.borrow().faults == self.faults {
            return Ok(());
        }
        Err(Ending::Failed(ApiError::known(KnownFailure::KvOverflow)))
    }

    async fn token(&mut self, run: &mut Run, beat: TokenBeat) -> Result<(), Ending> {
        if let Some(pass) = beat.pass {
            if run.lease.timings.predicted_n > 0 {
                let (step, cost) = self.sim.step_time();
                let slower = 1.0 + cost * f64::from(pass.drafted);
                run.clock += step.unwrap_or(NOMINAL_STEP).mul_f64(slower);
                if step.is_some() {
                    self.wire.wait_until(Some(self.start + run.clock)).await?;
                }
            }
            let wedged = self.pass_gate().await?;
            self.start += wedged;
            self.check_faults()?;
            run.lease.timings.draft_n += u64::from(pass.drafted);
            run.lease.timings.draft_n_accepted += u64::from(pass.accepted);
            run.lease.passes.add(pass);
        }
        let timings = &mut run.lease.timings;
        timings.predicted_n += 1;
        timings.predicted_ms = (run.clock.as_secs_f64() * 1e3).max(0.001);
        run.lease.generated.push(beat.token);
        if beat.pass.is_some() {
            run.lease.show();
        }
        if self.request.stream {
            self.emit(run, &beat).await?;
        } else {
            run.said.add(beat.token, &beat.emit, self.request.logprobs);
        }
        Ok(())
    }

    /// Sends what a token makes visible. The role shares the HTTP chunk of first visible text.
    async fn emit(&mut self, run: &mut Run, beat: &TokenBeat) -> Result<(), Gone> {
        let text = matches!(beat.emit, Emit::Content(_) | Emit::Split(_));
        if run.role_due {
            run.role_due = false;
            self.envelope.role(&mut self.events, run.index);
            if !text {
                self.send();
            }
        }
        if beat.emit == Emit::Nothing {
            return Ok(());
        }
        let timings = &run.lease.timings;
        let evaluated = timings.cache_n + timings.prompt_n;
        self.envelope.token(
            &mut self.events,
            run.index,
            beat.token,
            &beat.emit,
            timings,
            evaluated,
        );
        if let Emit::Split(_) = beat.emit {
            return self.send_split().await;
        }
        self.send();
        self.wire.relieve().await
    }

    fn role(&mut self, run: &mut Run) {
        if self.request.stream && std::mem::take(&mut run.role_due) {
            self.envelope.role(&mut self.events, run.index);
            self.send();
        }
    }

    fn send(&mut self) {
        self.wire.chunk(&self.events);
        self.events.clear();
    }

    /// Sends the gathered events cut after the first byte of every character that has several.
    async fn send_split(&mut self) -> Result<(), Gone> {
        let events = std::mem::take(&mut self.events);
        let mut from = 0;
        for (at, byte) in events.iter().enumerate() {
            if *byte >= 0xC0 {
                self.wire.chunk(&events[from..=at]);
                from = at + 1;
                // A pause makes it two segments for the reader.
                self.wire
                    .wait_until(Some(Instant::now() + Duration::from_millis(2)))
                    .await?;
            }
        }
        self.wire.chunk(&events[from..]);
        self.wire.relieve().await
    }

    fn finish(&mut self, run: &mut Run) {
        run.finished = true;
        run.said.finish.clone_from(&run.finish);
        if !self.request.stream {
            return;
        }
        self.role(run);
        if self.request.kind == Kind::Native {
            let native = self.native(run);
            self.events.extend_from_slice(b"data: ");
            let timings = &run.lease.timings;
            self.envelope.native(
                &mut self.events,
                run.index,
                &run.said,
                timings,
                self.request,
                &native,
                true,
            );
            self.events.extend_from_slice(b"\n\n");
        } else {
            self.envelope
                .finish(&mut self.events, run.index, &run.finish, &run.lease.timings);
        }
        self.send();
    }

    fn native(&self, run: &Run) -> Native<'a> {
        let types = info::shown_types(&self.sim.live.lock().speculation.types);
        let task = task(0, self.request, 0);
        Native {
            slot: run.lease.slot,
            prompt: &self.request.prompt,
            settings: info::params(&task, &types, true),
        }
    }

    /// Sends the end of an answer that ran to its end. The slots are idle before the client sees it.
    async fn complete(&mut self, runs: Vec<Run>) -> Result<(), Gone> {
        let Some(first) = runs.first() else {
            return self.end().await;
        };
        if !self.request.stream {
            let native = self.native(first);
            let timings = first.lease.timings;
            let said: Vec<Said> = runs.into_iter().map(|run| run.said).collect();
            let body = self.envelope.body(&said, &timings, self.request, &native);
            return self.wire.json(200, body).await;
        }
        if self.request.kind != Kind::Native && runs.iter().all(|run| run.send_done) {
            self.wire.chunk(b"data: [DONE]\n\n");
        }
        drop(runs);
        self.wire.end_stream().await
    }

    async fn fail(&mut self, error: &ApiError) -> Result<(), Gone> {
        if !self.request.stream {
            return self.wire.json(error.status, error.body()).await;
        }
        self.wire
            .chunk(format!("data: {}\n\n", error.body()).as_bytes());
        self.wire.end_stream().await
    }

    async fn end(&mut self) -> Result<(), Gone> {
        if self.request.stream {
            self.wire.end_stream().await
        } else {
            self.wire.json(200, "").await
        }
    }
}

/// Goes on generating for a client that left, as the real server does for some.
async fn orphan(sim: Arc<Sim>, mut runs: Vec<Run>) {
    for run in &mut runs {
        for beat in run.beats.by_ref() {
            let Beat::Token(token) = beat else { continue };
            if token.pass.is_some() {
                tokio::time::sleep(sim.step_time().0.unwrap_or(NOMINAL_STEP)).await;
            }
            run.lease.timings.predicted_n += 1;
            run.lease.generated.push(token.token);
            run.lease.show();
        }
    }
}
