//! The client of the benchmark: blocking, one request at a time, so that nothing else runs in the process that
//! takes the time.

use std::io::{BufReader, Read as _};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use ureq::Agent;
use ureq::http::Response;

use crate::config::Secret;
use crate::turn::Timings;

/// Largest answer that is read: far beyond what `max_tokens` allows.
const MOST_BYTES: u64 = 64 << 20;
/// Longest wait for an answer to a small question, and for a connection.
const SHORT: Duration = Duration::from_secs(10);

/// Asks by HTTP.
#[derive(Clone, Debug)]
pub(super) struct Client {
    agent: Agent,
}

/// An answer as its client saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The gateway's name for the request.
    pub(super) request_id: String,
    /// What ran, as the gateway says.
    pub(super) profile: Option<String>,
    /// To the end.
    pub(super) latency: Duration,
    /// To the first text, reasoning or call.
    pub(super) ttft: Option<Duration>,
    /// Why it ended.
    pub(super) finish: Option<String>,
    /// What the server measured.
    pub(super) timings: Option<Timings>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    timings: Option<Timings>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<serde_json::Value>,
}

impl Delta {
    fn has_content(&self) -> bool {
        let is_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        is_text(&self.content) || is_text(&self.reasoning_content) || self.tool_calls.is_some()
    }
}

impl Client {
    /// One that waits for an answer no longer than `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(SHORT))
            .timeout_global(Some(patience))
            // llama-server closes idle connections after 5 s.
            .max_idle_age(Duration::from_secs(4))
            .build();
        Self {
            agent: Agent::new_with_config(config),
        }
    }

    /// Status and text of an answer to a small question.
    pub(super) fn get(&self, url: &str, bearer: Option<&Secret>) -> Result<(u16, String), String> {
        let mut request = self
            .agent
            .get(url)
            .config()
            .timeout_global(Some(SHORT))
            .build();
        if let Some(secret) = bearer {
            request = request.header("authorization", format!("Bearer {}", secret.expose()));
        }
        let mut response = request.call().map_err(|error| format!("{url}: {error}"))?;
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|error| format!("{url}: {error}"))?;
        Ok((response.status().as_u16(), text))
    }

    /// What `url` answers with status 200.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        url: &str,
        bearer: Option<&Secret>,
    ) -> Result<T, String> {
        match self.get(url, bearer)? {
            (200, text) => serde_json::from_str(&text).map_err(|error| format!("{url}: {error}")),
            (status, _) => Err(format!("{url} answers {status}")),
        }
    }

    /// One turn, streamed.
    ///
    /// # Errors
    /// It was not answered, or not to its end: in words.
    pub(super) fn turn(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        bearer: Option<&Secret>,
        body: &str,
    ) -> Result<Answer, String> {
        let mut request = self
            .agent
            .post(url)
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(secret) = bearer {
            request = request.header("authorization", format!("Bearer {}", secret.expose()));
        }
        let started = Instant::now();
        let mut response = request.send(body).map_err(|error| error.to_string())?;
        let mut answer = Answer {
            request_id: header(&response, "x-request-id").unwrap_or_default(),
            profile: header(&response, "x-drover-spec"),
            ..Answer::default()
        };
        if response.status().as_u16() != 200 {
            let status = response.status();
            let text = response.body_mut().read_to_string().unwrap_or_default();
            return Err(format!("status {status}: {}", text.trim()));
        }
        let body = response.body_mut().as_reader().take(MOST_BYTES);
        read(BufReader::new(body), started, &mut answer)?;
        Ok(answer)
    }
}

fn header<T>(response: &Response<T>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(value.to_str().ok()?.to_owned())
}

/// Reads the events of a stream to their end.
fn read(
    mut body: impl std::io::BufRead,
    started: Instant,
    answer: &mut Answer,
) -> Result<(), String> {
    let mut line = String::new();
    loop {
        line.clear();
        let n = body
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        let Some(data) = line.trim_end().strip_prefix("data:") else {
            match n {
                0 => return Err("the stream ended without an end".to_owned()),
                _ => continue,
            }
        };
        if data.trim() == "[DONE]" {
            answer.latency = started.elapsed();
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| error.to_string())?;
        if let Some(error) = chunk.error {
            return Err(format!("error in the stream: {error}"));
        }
        for choice in chunk.choices {
            if choice.delta.has_content() && answer.ttft.is_none() {
                answer.ttft = Some(started.elapsed());
            }
            answer.finish = choice.finish_reason.or(answer.finish.take());
        }
        answer.timings = chunk.timings.or(answer.timings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Result<Answer, String> {
        let mut answer = Answer::default();
        read(text.as_bytes(), Instant::now(), &mut answer).map(|()| answer)
    }

    #[test]
    fn a_stream_is_read_to_its_end() {
        let start = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null},\"finish_reason\":null}]}\n\n";
        let text =
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
        let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}],\"timings\":{\"cache_n\":0,\
                   \"prompt_n\":4,\"prompt_ms\":2.0,\"predicted_n\":20,\"predicted_ms\":100.0}}\n\n";
        let done = ": ping\n\ndata: [DONE]\n\n";
        let answer = seen(&[start, text, end, done].concat()).unwrap();
        assert!(answer.ttft.is_some() && answer.latency >= answer.ttft.unwrap());
        assert_eq!(answer.finish.as_deref(), Some("length"));
        assert_eq!(answer.timings.unwrap().predicted_n, 20);
        assert!(seen(&[start, end, done].concat()).unwrap().ttft.is_none());
        assert!(seen(&[start, text].concat()).is_err());
        assert!(seen("data: {\"error\":{\"message\":\"gone\"}}\n\ndata: [DONE]\n\n").is_err());
    }
}
