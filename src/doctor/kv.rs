//! Whether turns are kept from overflowing the KV cache that a server's slots share.
//!
//! `/props` does not tell whether they share one (llama-server b11434). A router tells how it starts a model: with
//! `--kv-unified`, and without `--parallel`, which means four slots and one cache (`server.cpp`), they do.

use super::Finding;
use super::Severity::{Info, Warning};
use super::said::Said;
use crate::config::KvLayout;

/// Slots of a server that is started without `--parallel`.
const DEFAULT_SLOTS: u32 = 4;

pub(super) fn examine(said: &Said<'_>) -> Option<Finding> {
    let backend = &said.survey.backend;
    let slots = said.survey.facts.total_slots.filter(|slots| *slots > 1)?;
    let (configured, told) = (backend.kv(), said.args().map(is_unified));
    let is_unified = told.unwrap_or(configured == KvLayout::Unified);
    match (configured, told) {
        _ if is_unified && !backend.reserves() => Some(said.find(
            Warning,
            "kv_unreserved",
            format!("its {slots} slots share one KV cache, and `fleet.reserve` is off"),
            "one answer too many fills the cache, and every answer under way there is lost",
            "set `fleet.reserve: true`",
        )),
        (KvLayout::Auto, Some(true)) => Some(said.find(
            Warning,
            "kv_auto_unified",
            format!("its {slots} slots share one KV cache, and `kv` is auto"),
            "nothing is reserved there until the cache has overflowed once, which fails every answer under way",
            "set `kv: unified`",
        )),
        (KvLayout::Split, Some(true)) | (KvLayout::Unified, Some(false)) => Some(said.find(
            Warning,
            "kv_layout",
            format!("`kv` says {}, and it is not started so", name(configured)),
            "turns wait for room that need not be kept, or overflow a cache that nobody keeps room in",
            "set `kv` to what it is started with: unified without --parallel or with --kv-unified, else split",
        )),
        (KvLayout::Auto, None) if slots == DEFAULT_SLOTS => Some(said.find(
            Info,
            "kv_unknown",
            format!("it has {slots} slots, and `kv` is auto"),
            "started without --parallel, or with --kv-unified, they share one KV cache, which cannot be seen; nothing \
             is reserved there until it has overflowed once",
            "set `kv` to unified or split",
        )),
        _ => None,
    }
}

const fn name(layout: KvLayout) -> &'static str {
    match layout {
        KvLayout::Auto => "auto",
        KvLayout::Unified => "unified",
        KvLayout::Split => "split",
    }
}

fn is_unified(args: &[String]) -> bool {
    let has = |names: &[&str]| args.iter().any(|arg| names.contains(&arg.as_str()));
    let is_split = has(&["--no-kv-unified", "-no-kvu"]);
    !is_split && (has(&["--kv-unified", "-kvu"]) || !has(&["--parallel", "-np"]))
}
