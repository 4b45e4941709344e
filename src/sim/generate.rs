//! One generation request from admission to its last byte.

use std::{sync::Arc, time::Duration};

use super::{
    body::Said,
    cache::Task,
    engine::{Sim, SlotLease},
    errors::{ApiError, KnownFailure},
    http::{Gone, Wire},
    made_up::made_up,
    plan::{self, Beat},
    request::{Format, Kind, Request},
    rng::{self, Rng},
    schema,
    session::{Ending, NOMINAL_STEP, Run, Session},
    step::{ErrorStep, Step},
    tokens::{self, Token},
};

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
            .unwrap_or_else(|| made_up(request, room, &mut rng));
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

/// What `/slots` shows of a new task.
pub(super) fn task(id: u64, request: &Request, prompt: usize) -> Task {
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
