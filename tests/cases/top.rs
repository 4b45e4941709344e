//! `drover top` in a terminal, against a gateway under way.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use serde_json::json;
use tokio::process::Command;

use crate::support::*;

const SIZE: PtySize = PtySize {
    rows: 24,
    cols: 160,
    pixel_width: 0,
    pixel_height: 0,
};

const TOKEN: &str = "s3cret-and-long-enough";

/// The program in a terminal.
struct Screen {
    child: Box<dyn Child + Send + Sync>,
    terminal: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    seen: Arc<Mutex<vt100::Parser>>,
}

impl Screen {
    fn of(args: &[&str]) -> Self {
        let pair = native_pty_system().openpty(SIZE).unwrap();
        let mut command = CommandBuilder::new(DROVER);
        command.arg("top");
        command.args(args);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let seen = Arc::new(Mutex::new(vt100::Parser::new(
            SIZE.rows.try_into().unwrap(),
            SIZE.cols.try_into().unwrap(),
            0,
        )));
        let mut output = pair.master.try_clone_reader().unwrap();
        let shown = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut piece) {
                shown.lock().process(&piece[..length]);
            }
        });
        Self {
            child,
            keys: pair.master.take_writer().unwrap(),
            terminal: pair.master,
            seen,
        }
    }

    fn text(&self) -> String {
        self.seen.lock().screen().contents()
    }

    async fn shows(&self, text: &str) {
        eventually(&format!("`{text}` on the screen"), || {
            std::future::ready(self.text().contains(text).then_some(()))
        })
        .await;
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    async fn ended(&mut self) -> bool {
        eventually("the end of the program", || {
            std::future::ready(self.child.try_wait().unwrap())
        })
        .await
        .success()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[tokio::test]
async fn shows_the_fleet_and_what_happens_until_a_key_ends_it() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut screen = Screen::of(&["--admin", &gateway.admin.to_string()]);
    screen.shows("sessions").await;
    let fleet = gateway.admin_get("/api/backends").await.json();
    let name = fleet["backends"][0]["id"].as_str().unwrap().to_owned();
    screen.shows(&name).await;
    screen.shows("ready").await;
    assert!(screen.seen.lock().screen().alternate_screen());

    screen.press("3");
    screen.shows("nothing yet").await;
    let body = json!({"model": "m\u{1b}[2Jodel", "messages": [{"role": "user", "content": "hi"}]});
    let answer = gateway
        .ask(&post("/v1/chat/completions", body.to_string()))
        .await;
    let id = answer.headers.get("x-request-id").unwrap().to_owned();
    screen.shows(&id[..id.len().min(20)]).await;
    screen.shows("last minute").await;

    let wider = PtySize {
        rows: 40,
        cols: 200,
        ..SIZE
    };
    screen.seen.lock().screen_mut().set_size(
        wider.rows.try_into().unwrap(),
        wider.cols.try_into().unwrap(),
    );
    screen.terminal.resize(wider).unwrap();
    screen.press("1");
    screen.shows(&name).await;
    let keys = "q quit";
    eventually("the last line where the terminal ends", || {
        let text = screen.text();
        std::future::ready(
            text.lines()
                .nth(39)
                .is_some_and(|line| line.contains(keys))
                .then_some(()),
        )
    })
    .await;

    drop(gateway);
    screen.shows("AWAY").await;
    screen.press("q");
    assert!(screen.ended().await, "{}", screen.text());
    let seen = screen.seen.lock();
    assert!(!seen.screen().alternate_screen() && !seen.screen().hide_cursor());
}

/// A gateway that asks for a token.
async fn guarded(backend: &Backend) -> Gateway {
    Setup::to(&[backend])
        .set("admin.token_env", json!("TOP_TOKEN"))
        .env("TOP_TOKEN", TOKEN)
        .start_unready()
        .await
}

#[tokio::test]
async fn once_prints_text_with_the_token_of_the_configuration() {
    let backend = Backend::start().await;
    let gateway = guarded(&backend).await;
    let admin = gateway.admin.to_string();
    let run = async |token: &str| {
        let run = Command::new(DROVER)
            .args(["top", "--once", "--admin", &admin, "--token-env", "GIVEN"])
            .env("GIVEN", token)
            .output();
        tokio::time::timeout(Duration::from_secs(60), run)
            .await
            .unwrap()
            .unwrap()
    };
    let good = run(TOKEN).await;
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(
        good.status.success() && text.contains("backend") && text.contains("sessions"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
    let bad = run("wrong").await;
    let error = String::from_utf8(bad.stderr).unwrap();
    assert!(
        !bad.status.success() && error.contains("asks for a token"),
        "{error}"
    );
    assert!(!error.contains("s3cret"));
}

/// Regression: the variable, which may be meant for another gateway, came before the configuration's own token.
#[tokio::test]
async fn the_token_of_a_given_configuration_comes_first() {
    let backend = Backend::start().await;
    let gateway = guarded(&backend).await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("drover.yaml");
    let text = json!({"admin": {"addr": gateway.admin, "token_env": "TOP_TOKEN"}}).to_string();
    std::fs::write(&config, text).unwrap();
    let run = Command::new(DROVER)
        .args(["top", "--once", "--config"])
        .arg(&config)
        .env("TOP_TOKEN", TOKEN)
        .env("DROVER_ADMIN_TOKEN", "of another gateway")
        .output()
        .await
        .unwrap();
    let (text, error) = (String::from_utf8(run.stdout), String::from_utf8(run.stderr));
    assert!(run.status.success(), "{error:?}");
    assert!(text.unwrap().contains("sessions"));
}

#[tokio::test]
async fn without_a_terminal_it_says_what_to_do() {
    let run = Command::new(DROVER).arg("top").output().await.unwrap();
    let error = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success() && error.contains("--once"), "{error}");
}
