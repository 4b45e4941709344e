use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn config(path: &std::path::Path) -> Config {
    let text = format!(
        "fleet: {{pools: [{{name: p, models: [m], backends: [{{url: 'http://h:1', name: listed}}], \
         discovery: {{file: {{path: '{}', every: 20ms}}}}}}]}}",
        path.display()
    );
    config::parse(&text, std::iter::empty()).unwrap()
}

async fn found(discovery: &mut Discovery) -> News {
    let found = timeout(Duration::from_secs(20), discovery.found()).await;
    let found = found.expect("something is found");
    assert_eq!(found.pool, "p");
    found.news
}

fn names(config: &Config) -> Vec<&str> {
    let backends = config.fleet.pools[0].backends.iter();
    backends.filter_map(|b| b.name.as_deref()).collect()
}

#[tokio::test]
async fn a_set_is_told_when_it_changes_and_what_is_none_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backends.yaml");
    let config = config(&path);
    let mut discovery = Discovery::default();
    discovery.follow(&config);
    assert!(matches!(
        found(&mut discovery).await,
        News::None(DiscoveryResult::Failed)
    ));

    std::fs::write(&path, "- {url: 'http://h:2', name: a}\n").unwrap();
    let News::Changed(backends) = found(&mut discovery).await else {
        panic!("one was found");
    };
    let merged = discovery.merged(&config, Some(("p", &backends)));
    assert_eq!(names(&merged), ["listed", "a"]);
    assert_eq!(names(&discovery.merged(&config, None)), ["listed"]);
    discovery.applied("p", backends);
    assert_eq!(names(&discovery.merged(&config, None)), ["listed", "a"]);

    for (text, result) in [
        (
            "- {url: 'http://h:2', name: a} # the same\n",
            DiscoveryResult::Unchanged,
        ),
        ("[]\n", DiscoveryResult::Empty),
        ("- {url: 'http://h:2', nam: a}\n", DiscoveryResult::Failed),
        ("url: 'http://h:2'\n", DiscoveryResult::Failed),
    ] {
        std::fs::write(&path, text).unwrap();
        match found(&mut discovery).await {
            News::None(told) => assert_eq!(told, result, "{text}"),
            News::Changed(found) => panic!("{text}: {found:?}"),
        }
        assert_eq!(names(&discovery.merged(&config, None)), ["listed", "a"]);
    }
}

#[tokio::test]
async fn only_the_last_word_of_a_source_that_is_still_wanted_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for (path, port) in [(&one, 1), (&two, 2)] {
        std::fs::write(path, format!("[{{url: 'http://h:{port}', name: n{port}}}]")).unwrap();
    }
    let mut discovery = Discovery::default();
    discovery.follow(&config(&one));
    let News::Changed(first) = found(&mut discovery).await else {
        panic!("n1 was found");
    };
    discovery.applied("p", first);
    // What the old source says now is about a pool that has another one.
    let teller = Teller {
        source: 1,
        board: Arc::clone(&discovery.board),
    };
    discovery.follow(&config(&two));
    teller.tell(Ok(Vec::new()));
    assert_eq!(
        names(&discovery.merged(&config(&two), None)),
        ["listed", "n1"],
        "until the new source has answered"
    );
    let News::Changed(second) = found(&mut discovery).await else {
        panic!("n2 was found");
    };
    assert_eq!(second[0].name.as_deref(), Some("n2"));
}

#[tokio::test]
async fn a_set_that_was_refused_is_told_again_after_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backends");
    std::fs::write(&path, "[{url: 'http://h:2', name: listed}]").unwrap();
    let config = config(&path);
    let mut discovery = Discovery::default();
    discovery.follow(&config);
    for _ in 0..2 {
        assert!(matches!(found(&mut discovery).await, News::Changed(_)));
        discovery.refused("p", "the name is taken");
        discovery.follow(&config);
    }
}

/// For who asks once: the configuration with what was found, and why nothing was.
#[tokio::test(start_paused = true)]
async fn sources_are_asked_once_and_not_waited_for_longer_than_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gpus.yaml");
    std::fs::write(&file, "[{name: found, url: 'http://h:2'}]").unwrap();
    let patience = Duration::from_secs(3);
    let once = async |config: &Config| Discovery::once(config, patience, Ok).await;
    let (complete, missing) = once(&config(&file)).await;
    assert_eq!(
        (names(&complete), missing),
        (vec!["listed", "found"], vec![])
    );

    let refusing = |_| Err("the name is taken".to_owned());
    let (complete, missing) = Discovery::once(&config(&file), patience, refusing).await;
    assert_eq!(names(&complete), ["listed"]);
    let told = Missing {
        pool: "p".to_owned(),
        listed: 1,
        why: "the name is taken".to_owned(),
    };
    assert_eq!(missing, std::slice::from_ref(&told));

    let (complete, missing) = once(&config(&dir.path().join("none"))).await;
    assert_eq!(names(&complete), ["listed"]);
    assert!(missing[0].why.contains("cannot be read"), "{missing:?}");

    // It takes questions, and answers none.
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "fleet: {{pools: [{{name: p, models: [m], backends: [{{url: 'http://h:1', name: listed}}], \
         discovery: {{dns: {{name: gpus.test., port: 1, server: '{}'}}}}}}]}}",
        server.local_addr().unwrap()
    );
    let silent = config::parse(&text, std::iter::empty()).unwrap();
    let (complete, missing) = once(&silent).await;
    assert_eq!(names(&complete), ["listed"]);
    let why = "no answer within 3s".to_owned();
    assert_eq!(missing, [Missing { why, ..told }]);
}
