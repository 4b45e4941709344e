//! What a scripted backend answers to the gateway's own questions.

use serde_json::{Value, json};

use super::script::Reply;

/// Context window of a slot, in tokens.
pub(crate) const N_CTX: u64 = 4096;

/// The `--api-prefix` under which a backend answers too.
pub(crate) const PREFIX: &str = "/api";

/// How health checks are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Like a server that works.
    Ok,
    /// The same, with a window that no test fills.
    Roomy,
    /// Like a server that speculates.
    Speculates,
    /// The same by another build.
    Rebuilt,
    /// Like a server of an older build.
    Old,
    /// Every path says that the model is loading.
    Loading,
}

/// A question of the gateway's own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    Health,
    Props,
    Slots,
    ApplyTemplate,
}

impl Check {
    /// The check a request is; none for what a client asks for.
    pub(crate) fn find(target: &str) -> Option<Self> {
        let path = target.split('?').next().unwrap_or_default();
        Some(match path.strip_prefix(PREFIX).unwrap_or(path) {
            "/health" => Self::Health,
            "/props" => Self::Props,
            "/slots" => Self::Slots,
            "/apply-template" => Self::ApplyTemplate,
            _ => return None,
        })
    }

    pub(crate) fn answer(self, health: Health, body: &[u8]) -> Reply {
        if health == Health::Loading {
            return Reply::loading();
        }
        let body = match self {
            Self::Health => json!({"status": "ok"}),
            Self::Props => props(health),
            Self::Slots => (0..4).map(|id| slot(id, health)).collect(),
            Self::ApplyTemplate => json!({"prompt": render(body)}),
        };
        Reply::json(200, &body)
    }
}

impl Health {
    /// Tokens a slot holds.
    fn window(self) -> u64 {
        match self {
            Self::Roomy => 1 << 20,
            Self::Ok | Self::Old | Self::Loading | Self::Speculates | Self::Rebuilt => N_CTX,
        }
    }
}

fn props(health: Health) -> Value {
    let window = health.window();
    let build = match health {
        Health::Rebuilt => "b99999-other",
        Health::Old => "b11000-test",
        _ => "b11434-test",
    };
    json!({
        "default_generation_settings": {"params": {"seed": 1}, "n_ctx": health.window()},
        "total_slots": 4, "model_alias": "backend-model", "model_path": "/m.gguf",
        "modalities": {"vision": true, "video": false, "audio": false},
        "endpoint_slots": true, "endpoint_props": false, "endpoint_metrics": false,
        "chat_template": "{{ messages }}", "build_info": build,
        "chat_template_caps": {"supports_tools": true, "supports_tool_calls": true},
        "is_sleeping": false,
    })
}

fn slot(id: u32, health: Health) -> Value {
    let speculative = matches!(health, Health::Speculates | Health::Rebuilt);
    json!({"id": id, "n_ctx": health.window(), "speculative": speculative, "is_processing": false})
}

/// A template that takes any order of roles, in the manner of ChatML.
fn render(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let text =
        |message: &Value, field: &str| message[field].as_str().unwrap_or_default().to_owned();
    let rendered = messages.iter().map(|message| {
        let thinking = text(message, "reasoning_content");
        format!(
            "<|{}|>{thinking}{}<|end|>\n",
            text(message, "role"),
            text(message, "content")
        )
    });
    let generate = body["add_generation_prompt"] != false;
    rendered.collect::<String>() + if generate { "<|assistant|>" } else { "" }
}
