use super::super::report;
use super::super::tests::artifact;
use super::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn root(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// Compares a file with what generates it, or writes it.
fn generated(path: &Path, text: &str, how: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, text).unwrap();
        return;
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(there == text, "{} is stale: {how}", path.display());
}

#[test]
fn the_published_schema_is_that_of_the_code() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    let path = root("bench/schema/spec.schema.json");
    generated(
        &path,
        &text,
        "UPDATE_DOCS=1 cargo test --lib bench::artifact",
    );
}

#[test]
fn an_artifact_is_read_as_it_was_written_and_fits_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("artifact.json");
    let written = artifact(|_, _| 1.0);
    written.write(&path).unwrap();
    let read = Artifact::read(&path).unwrap();
    let value = serde_json::to_value(&read).unwrap();
    assert_eq!(value, serde_json::to_value(&written).unwrap());
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(validator.is_valid(&value));
    for (field, wrong) in [
        ("version", "2"),
        ("contestants", "{}"),
        ("protocol", "null"),
    ] {
        let mut bad = value.clone();
        bad[field] = serde_json::from_str(wrong).unwrap();
        assert!(!validator.is_valid(&bad), "{field}");
    }
}

#[test]
fn what_is_no_artifact_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    let why = |text: &str| {
        fs::write(&path, text).unwrap();
        Artifact::read(&path).unwrap_err().why
    };
    assert!(why("nonsense").contains("expected"));
    assert!(why("{}").contains("no artifact"));
    assert!(why("{\"version\": 7}").contains("version 7"));
    assert!(why("{\"version\": 1}").contains("missing field"));
    assert!(Artifact::read(&root("nowhere.json")).is_err());
}

/// The artifact in the repository: it fits the schema, its counts agree, and the documentation shows its tables.
#[test]
fn the_reference_is_a_real_one_and_the_documentation_shows_it() {
    let path = root("bench/reference/spec/artifact.json");
    let value: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let schema = fs::read(root("bench/schema/spec.schema.json")).unwrap();
    let schema = serde_json::from_slice(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let reference = Artifact::read(&path).unwrap();
    for contestant in &reference.contestants {
        assert_eq!(contestant.totals.equal, Some(true), "{}", contestant.name);
    }
    let page = root("docs/speculative-production.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- measured: begin -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- measured: end -->").unwrap();
    let shown = report::tables(&reference);
    let text = format!("{before}<!-- measured: begin -->\n{shown}<!-- measured: end -->{after}");
    generated(
        &page,
        &text,
        "UPDATE_DOCS=1 cargo test --lib bench::artifact",
    );
}
