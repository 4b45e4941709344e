//! Backends that are the models of a llama-server in router mode: those it lists.

use std::time::Duration;

use tokio::time::sleep;

use super::Teller;
use crate::config::{self, Config, RouterSource, Template};
use crate::fleet::Backend;
use crate::fleet::probe::HttpProbe;
use crate::fleet::resolve::{SystemResolver, resolve};
use crate::fleet::router;

/// Longest wait for an answer of the router.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells the models of the router, as often as `every` says.
pub(super) async fn look(source: &RouterSource, like: &Template, teller: &Teller) {
    let probe = HttpProbe::new();
    loop {
        teller.tell(list(&probe, source, like).await);
        sleep(source.every).await;
    }
}

async fn list(
    probe: &HttpProbe,
    source: &RouterSource,
    like: &Template,
) -> Result<Vec<config::Backend>, String> {
    let at = like.at("router".to_owned(), source.url.clone());
    let asked = Backend::new(&at, "".into(), &Config::default());
    let asked = asked.map_err(|error| error.to_string())?;
    resolve(&asked, &SystemResolver).await?;
    let listed = router::list(probe, &asked, PATIENCE).await;
    let listed = listed.ok_or("it does not answer as a router does")?;
    let wanted = listed.into_iter().filter(|model| {
        let mut wanted = source.models.iter();
        source.models.is_empty() || wanted.any(|glob| glob.matches(&model.name))
    });
    let place = asked.address();
    Ok(wanted
        .map(|model| config::Backend {
            model: Some(model.name.clone()),
            profile: like.profile.clone().or(model.profile),
            ..like.at(name(&model.name, &place), source.url.clone())
        })
        .collect())
}

/// What the backend is called. Names of models have more kinds of characters (`org/model:quantisation`) than names of
/// backends may.
fn name(model: &str, place: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:[]@".contains(c);
    let name = format!("{model}@{place}");
    name.replace(|c: char| !fits(c), "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_called_as_model_and_place() {
        let place = "127.0.0.1:8080";
        assert_eq!(name("plain", place), "plain@127.0.0.1:8080");
        let from_hub = name("org/coder-GGUF:Q4_K_M", place);
        assert_eq!(from_hub, "org-coder-GGUF:Q4_K_M@127.0.0.1:8080");
    }
}
