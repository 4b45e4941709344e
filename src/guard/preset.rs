//! Which preset a turn has.

use crate::config::{Auth, Config, Preset};

/// Where a turn's preset may come from besides the configuration's default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// `x-drover-guard`, as it came.
    pub header: Option<&'a str>,
    /// Name of the API key.
    pub principal: Option<&'a str>,
    /// The pool's own.
    pub pool: Option<Preset>,
}

/// Header over key over pool over default; a header only as far as its key may choose. Without
/// keys the gateway serves one person's own machine, and that person may choose.
pub fn resolve(config: &Config, sources: Sources<'_>) -> Preset {
    let Auth { keys, .. } = &config.auth;
    let key = sources
        .principal
        .and_then(|name| keys.iter().find(|key| key.name == name));
    let asked = sources.header.and_then(parse);
    let allowed = asked.filter(|asked| match key {
        Some(key) => key.may_select.guard.contains(asked),
        None => keys.is_empty(),
    });
    allowed
        .or_else(|| key.and_then(|key| key.guard))
        .or(sources.pool)
        .unwrap_or(config.guard.preset)
}

fn parse(name: &str) -> Option<Preset> {
    serde_json::from_value(serde_json::Value::String(name.trim().to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(text: &str) -> Config {
        config::parse(text, std::iter::empty()).unwrap()
    }

    #[test]
    fn the_nearest_wins_and_a_key_bounds_the_header() {
        let key = "auth: {keys: [{name: a, key: secret-a, guard: observe, may_select: {guard: [strict]}}]}";
        let keyed = config(key);
        let with = |header, pool| {
            resolve(
                &keyed,
                Sources {
                    header,
                    principal: Some("a"),
                    pool,
                },
            )
        };
        assert_eq!(with(None, Some(Preset::Off)), Preset::Observe);
        assert_eq!(with(Some("strict"), None), Preset::Strict);
        assert_eq!(
            with(Some("off"), None),
            Preset::Observe,
            "the key may not choose this"
        );
        let open = config("guard: {preset: strict}");
        assert_eq!(resolve(&open, Sources::default()), Preset::Strict);
        let off = Sources {
            header: Some("off"),
            ..Sources::default()
        };
        assert_eq!(resolve(&open, off), Preset::Off);
        let nonsense = Sources {
            header: Some("x"),
            pool: Some(Preset::Off),
            ..Sources::default()
        };
        assert_eq!(resolve(&open, nonsense), Preset::Off);
    }
}
