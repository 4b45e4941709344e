//! The llama-servers of a benchmark: started for it, or given.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::artifact::Model;
use super::client::Client;
use super::contestant::Contestant;
use super::flags::Help;
use super::lineage;
use super::process::{Children, Running};
use super::stage::StageError;

/// How servers are started.
#[derive(Clone, Debug)]
pub struct Servers {
    /// The llama-server.
    pub binary: PathBuf,
    /// The model.
    pub model: PathBuf,
    /// The model that draft types ask.
    pub draft_model: Option<PathBuf>,
    /// Arguments for all of them, after the benchmark's own.
    pub arguments: Vec<String>,
    /// Longest wait until one is ready.
    pub patience: Duration,
}

/// One that runs, and what it tells about itself.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    /// Arguments, as they may be shown.
    pub(super) flags: Vec<String>,
    pub(super) build: Option<String>,
    pub(super) speculates: Option<bool>,
    pub(super) model: Option<Model>,
    pub(super) draft_model: Option<Model>,
    _running: Option<Running>,
}

#[derive(Deserialize)]
struct Props {
    build_info: Option<String>,
    model_path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Slot {
    speculative: Option<bool>,
}

impl Servers {
    /// Starts one for each contestant, all before the first is waited for.
    ///
    /// # Errors
    /// [`StageError::Usage`] when the binary does not know an argument, [`StageError::Failed`] when one does not
    /// become ready, or does not speculate though it should.
    pub(super) fn start(
        &self,
        contestants: &[Contestant],
        client: &Client,
        children: &Children,
        logs: &Path,
    ) -> Result<Vec<Server>, StageError> {
        let help = self.help()?;
        let arguments = contestants
            .iter()
            .map(|contestant| self.checked(contestant, &help))
            .collect::<Result<Vec<_>, _>>()?;
        let model = lineage::model(&self.model);
        let mut started = Vec::new();
        for (n, arguments) in arguments.iter().enumerate() {
            let mut command = Command::new(&self.binary);
            command.args(arguments);
            let log = logs.join(format!("server-{n}.log"));
            let running = children.start(&mut command, &log).map_err(|error| {
                StageError::Failed(format!("{}: {error}", self.binary.display()))
            })?;
            started.push(running);
        }
        let mut servers = Vec::new();
        for (n, running) in started.into_iter().enumerate() {
            let (contestant, arguments) = (&contestants[n], &arguments[n]);
            let url = self.ready(&contestant.name, &running, client)?;
            let mut server = Server::of(url, client)?;
            server.flags = shown(arguments);
            server.model = Some(model.clone());
            server.draft_model =
                draft(contestant, arguments).map(|path| match path == self.model {
                    // Large files are read for their hash once.
                    true => model.clone(),
                    false => lineage::model(&path),
                });
            if server.speculates == Some(false) && contestant.speculates() == Some(true) {
                return Err(StageError::Failed(format!(
                    "profile {} does not speculate though its server has started; the end of its log:\n{}",
                    contestant.name,
                    running.tail()
                )));
            }
            server._running = Some(running);
            servers.push(server);
        }
        Ok(servers)
    }

    /// What the binary says it takes.
    pub(super) fn help(&self) -> Result<Help, StageError> {
        let usage = |why: String| StageError::Usage(format!("{}: {why}", self.binary.display()));
        let told = Command::new(&self.binary).arg("--help").output();
        let told = told.map_err(|error| usage(error.to_string()))?;
        let help = Help::parse(&String::from_utf8_lossy(&told.stdout));
        if !help.has("--spec-type") {
            return Err(usage("its --help lists no --spec-type".to_owned()));
        }
        Ok(help)
    }

    /// All arguments for a contestant, none of which the binary does not know.
    fn checked(&self, contestant: &Contestant, help: &Help) -> Result<Vec<String>, StageError> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let draft = self.draft_model.as_deref().map(text);
        let own = contestant.arguments(draft.as_deref());
        let own = own.map_err(StageError::Usage)?;
        let mut arguments: Vec<String> =
            "--host 127.0.0.1 --port 0 --alias bench --metrics --slots --parallel 1"
                .split(' ')
                .map(str::to_owned)
                .collect();
        arguments.extend(["--model".to_owned(), text(&self.model)]);
        arguments.extend(self.arguments.iter().cloned());
        arguments.extend(own);
        match help.problems(&arguments).as_slice() {
            [] => Ok(arguments),
            problems => Err(StageError::Usage(format!(
                "profile {}: {}",
                contestant.name,
                problems.join(", ")
            ))),
        }
    }

    /// Waits until it answers requests; its address.
    fn ready(&self, name: &str, running: &Running, client: &Client) -> Result<String, StageError> {
        let since = Instant::now();
        let mut url = None;
        while since.elapsed() < self.patience && running.is_alive() {
            if url.is_none() {
                url = address(&running.log());
            }
            if let Some(url) = &url
                && matches!(client.get(&format!("{url}/health"), None), Ok((200, _)))
            {
                return Ok(url.clone());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let what = match running.is_alive() {
            true => format!("is not ready after {:?}", self.patience),
            false => "has ended".to_owned(),
        };
        Err(StageError::Failed(format!(
            "the server of profile {name} {what}; the end of its log:\n{}",
            running.tail()
        )))
    }
}

impl Server {
    /// One that runs at `url`.
    pub(super) fn of(url: String, client: &Client) -> Result<Self, StageError> {
        let props: Result<Props, _> = client.json(&format!("{url}/props"), None);
        let props = props.map_err(StageError::Failed)?;
        let slots: Result<Vec<Slot>, _> = client.json(&format!("{url}/slots"), None);
        let speculates = slots.ok().and_then(|slots| slots.first()?.speculative);
        Ok(Self {
            url,
            flags: Vec::new(),
            build: props.build_info,
            speculates,
            model: props.model_path.map(|path| lineage::model(&path)),
            draft_model: None,
            _running: None,
        })
    }
}

/// Where a llama-server says that it listens.
fn address(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on http://")?;
    let end = rest.find(|c: char| c.is_whitespace())?;
    Some(format!("http://{}", &rest[..end]))
}

/// The file of the draft model among `arguments`.
fn draft(contestant: &Contestant, arguments: &[String]) -> Option<PathBuf> {
    let at = arguments.iter().rposition(|a| a == "--spec-draft-model")?;
    let file = arguments
        .get(at + 1)
        .filter(|_| contestant.has_draft_model())?;
    Some(PathBuf::from(file))
}

/// Arguments for people: without the address, and paths without their folders.
fn shown(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if matches!(argument.as_str(), "--host" | "--port") {
            rest.next();
            continue;
        }
        let name = Path::new(argument)
            .file_name()
            .filter(|_| argument.starts_with('/'));
        shown.push(name.map_or(argument.clone(), |name| name.to_string_lossy().into_owned()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_arguments_tells_no_places() {
        let arguments: Vec<String> = "--host 127.0.0.1 --port 0 --model /a/b/m.gguf --parallel 1"
            .split(' ')
            .map(str::to_owned)
            .collect();
        assert_eq!(shown(&arguments).join(" "), "--model m.gguf --parallel 1");
    }

    #[test]
    fn the_address_is_read_from_the_log_once_it_is_whole() {
        let line = "0.00.1 I srv main: server is listening on http://127.0.0.1:8081";
        assert_eq!(address(line), None);
        let whole = format!("x\n{line} - starting\n");
        assert_eq!(address(&whole).as_deref(), Some("http://127.0.0.1:8081"));
    }
}
