//! Where traces go.

use super::Checker;
use crate::config::Config;

impl Checker<'_> {
    pub(super) fn traces(&mut self, config: &mut Config) {
        let Some(otlp) = &mut config.telemetry.otlp else {
            return;
        };
        self.fill("telemetry.otlp.token_env", otlp.token_env.as_mut());
        let url = otlp.traces_url().ok();
        if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            let message = format!(
                "`{}` is no address such as http://127.0.0.1:4318",
                otlp.endpoint
            );
            self.error("telemetry.otlp.endpoint", message);
        }
        if !(0.0..=1.0).contains(&otlp.sample) {
            self.error("telemetry.otlp.sample", "must be from 0 to 1");
        }
        if otlp.service.trim().is_empty() {
            self.error("telemetry.otlp.service", "must not be empty");
        }
    }
}
