//! Generates an answer on its connection: prefill, tokens in their time, the end.

use std::{sync::Arc, time::Duration, vec::IntoIter};

use tokio::{sync::watch, time::Instant};

use super::{
    answer::Envelope,
    body::{Native, Said},
    engine::{Gate, Sim, SlotLease, unix_now},
    errors::{ApiError, KnownFailure},
    generate::task,
    http::{Gone, Wire},
    info,
    plan::{Beat, Emit, TokenBeat},
    request::{Kind, Request},
};

/// Time of a decode step, and of a prompt token, in `timings` when speed is unlimited.
pub(super) const NOMINAL_STEP: Duration = Duration::from_micros(10);
const NOMINAL_PROMPT_MS: f64 = 0.002;

/// Longest time of a prompt batch, however slow the server is said to be.
const LONGEST_BATCH_MS: f64 = 24.0 * 3600.0 * 1e3;

/// Why an answer ends before its plan does.
pub(super) enum Ending {
    Gone,
    Failed(ApiError),
    Clean,
}

impl From<Gone> for Ending {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// One choice of the answer being generated in its slot.
pub(super) struct Run {
    pub(super) index: usize,
    pub(super) lease: SlotLease,
    pub(super) beats: IntoIter<Beat>,
    pub(super) finish: String,
    /// Simulated decode time so far.
    pub(super) clock: Duration,
    pub(super) said: Said,
    pub(super) role_due: bool,
    pub(super) send_done: bool,
    pub(super) finished: bool,
}

/// The state of one answer on its connection.
pub(super) struct Session<'a> {
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
    pub(super) fn new(sim: &'a Arc<Sim>, wire: &'a mut Wire, request: &'a Request) -> Self {
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

    pub(super) async fn run(&mut self, runs: &mut [Run]) -> Result<(), Ending> {
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
        let total = first.lease.prompt_len();
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
                ms = (batch as f64 / tps * 1e3).min(LONGEST_BATCH_MS);
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
                let slower = 1.0 + cost.max(0.0) * f64::from(pass.drafted);
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
    pub(super) async fn complete(&mut self, runs: Vec<Run>) -> Result<(), Gone> {
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

    pub(super) async fn fail(&mut self, error: &ApiError) -> Result<(), Gone> {
        if !self.request.stream {
            return self.wire.json(error.status, error.body()).await;
        }
        self.wire
            .chunk(format!("data: {}\n\n", error.body()).as_bytes());
        self.wire.end_stream().await
    }

    pub(super) async fn end(&mut self) -> Result<(), Gone> {
        if self.request.stream {
            self.wire.end_stream().await
        } else {
            self.wire.json(200, "").await
        }
    }
}
