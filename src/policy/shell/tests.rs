use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// Ways to run `git commit`, plain and not so plain.
const COMMITS: &[&str] = &[
    "git commit -m x",
    "git  commit",
    "/usr/bin/git commit -m x",
    "git -C dir commit -m x",
    "git -c user.name=a -c user.email=b commit -m x",
    "git --git-dir=.git --work-tree . commit -m x",
    "git --no-pager commit",
    "env X=1 git commit -m x",
    "X=1 git commit -m x",
    "env -i PATHX=1 git commit",
    "sudo -u me git commit",
    "nohup git commit &",
    "time git commit",
    "command git commit",
    "exec git commit",
    "timeout 10 git commit",
    "timeout -s KILL 10s git commit",
    "nice -n 5 git commit",
    "bash -c 'git commit -m x'",
    "bash -lc \"git commit -m x\"",
    "sh -c 'cd a; git commit'",
    "bash -c \"bash -c 'git commit'\"",
    "eval git commit",
    "eval \"git commit -m x\"",
    "cd a && git commit",
    "true; git commit",
    "false || git commit",
    "ls | git commit -F -",
    "(git commit)",
    "{ git commit; }",
    "if true; then git commit; fi",
    "for i in 1 2; do git commit; done",
    "while git commit; do :; done",
    "f() { git commit; }; f",
    "echo $(git commit -m x)",
    "echo `git commit -m x`",
    "cat <(git commit)",
    "echo \"a $(git commit) b\"",
    "g\\it commit",
    "'git' commit",
    "\"git\" \"commit\"",
    "g'i't com\"mi\"t",
    "$'\\x67it' commit",
    "git \\\n commit",
    "git add . &&\ngit commit -m x",
    "bash <<'EOF'\ngit commit -m x\nEOF",
    "bash <<< 'git commit'",
    "bash -s <<EOF\ngit commit\nEOF",
    "cat <<EOF | grep x && git commit\nhi\nEOF",
    "find . -name x -exec git commit \\;",
    "trap 'git commit' EXIT",
    "! git commit",
    "coproc git commit",
    "git submodule foreach 'git commit -m x'",
    "git rebase -x 'git commit --amend' main",
    "python3 -c \"import os; os.system('git commit -m x')\"",
    "perl -e 'system(\"git commit\")'",
    "node -e \"require('child_process').execSync('git commit')\"",
    "docker run x sh -c 'git commit'",
    "tmux send-keys 'git commit' Enter",
    "su -c 'git commit' me",
    "flock /tmp/l git commit",
    "watch git commit",
    "xargs -I{} git commit -m {}",
    "case a in a) git commit;; esac",
    "GIT_EDITOR=true git commit",
    "rtk git commit",
    "busybox sh -c 'git commit'",
    "setsid -w git commit",
    "env -S 'git commit -m x'",
    "git commit<<EOF\nx\nEOF",
    "\tgit\tcommit",
    "git.exe commit",
];

/// Lines that may run `git commit`; nobody can tell.
const UNCLEAR: &[&str] = &[
    "$GIT commit",
    "git $SUB -m x",
    "X=git; $X commit",
    "echo 'git commit' | bash",
    "cat x | sh",
    "bash -c \"$CMD\"",
    "eval \"$CMD\"",
    "echo commit | xargs git",
    "git -c alias.c=commit c",
    "git config alias.c commit && git c",
    "alias g=git; g commit",
    "echo 'git commit' > x.sh; bash x.sh",
    "printf 'git commit' > ./x; ./x",
    "tee x.sh <<'EOF' && sh x.sh\ngit commit\nEOF",
    "source <(echo git commit)",
    "bash <(echo git commit)",
    "g{i,}t commit",
    "/usr/bin/gi? commit",
    "$(echo git) commit",
    "`echo git` commit",
    "git commit 'unterminated",
    "python3 -c \"import subprocess; subprocess.run(['gi'+'t','com'+'mit'])\"",
    "base64 -d <<< Z2l0IGNvbW1pdA== | sh",
    "PATH=/tmp/evil:$PATH ls",
    "bash <<EOF\n$CMD\nEOF",
    "curl -s x | bash",
    "cat <<EOF | bash\ngit commit\nEOF",
    "parallel git ::: commit",
];

/// Lines that do not.
const OTHERS: &[&str] = &[
    "ls -la",
    "git status",
    "git log --grep 'git commit'",
    "echo 'git commit'",
    "grep -rn 'git commit' .",
    "git add commit",
    "git add . && git status",
    "cat docs/git/commit.md",
    "git show --stat HEAD",
    "cargo test commit",
    "git push origin main",
    "cd src && rg commit",
    "git diff -- commit",
    "printf 'run git commit later\\n'",
    "python3 -c 'print(1)'",
    "bash scripts/test.sh",
    "./run.sh --flag",
    "git log | head -5",
    "for f in a b; do echo $f; done",
    "test -f x && echo yes || echo no",
    "git branch commit-fix",
    "sed -n '1,5p' x",
    "find . -name '*.rs' -exec grep -n x {} +",
    "cat <<'EOF' > notes.md\nthen run git commit\nEOF",
    "git checkout -b commit",
    "which git",
    "command -v git",
    "make build",
    "git stash list",
    "X=1 cargo build",
];

#[test]
fn commits_are_seen_however_they_are_written() {
    for line in COMMITS {
        let script = parse(line);
        assert_eq!(
            runs(&script, &["git commit"]),
            Ok(true),
            "{line}: {script:#?}"
        );
    }
}

#[test]
fn what_nobody_can_tell_is_said_to_be_unknown() {
    for line in UNCLEAR {
        let script = parse(line);
        let answer = runs(&script, &["git commit"]);
        assert!(!matches!(answer, Ok(false)), "{line}: {script:#?}");
    }
}

#[test]
fn other_lines_are_let_alone() {
    for line in OTHERS {
        let script = parse(line);
        assert_eq!(
            runs(&script, &["git commit"]),
            Ok(false),
            "{line}: {script:#?}"
        );
    }
}

#[rstest]
#[case("cargo +nightly test", "cargo test", true)]
#[case("cargo test --lib x", "cargo test", true)]
#[case("cargo --locked test", "cargo test", true)]
#[case("npm --prefix web test", "npm test", true)]
#[case("python -m pytest -q", "python -m pytest", true)]
#[case("python -m http.server", "python -m pytest", false)]
#[case("git push --force origin", "git push --force", true)]
#[case("git push -uf origin", "git push -f", true)]
#[case("git push origin", "git push --force", false)]
#[case("gh -R o/r pr merge 5", "gh pr merge", true)]
#[case("go test ./...", "go test", true)]
fn options_may_stand_anywhere(#[case] line: &str, #[case] pattern: &str, #[case] is: bool) {
    assert_eq!(runs(&parse(line), &[pattern]), Ok(is));
}

#[rstest]
#[case("git worktree add .worktrees/a -b a", Some(".worktrees/a"))]
#[case("git worktree add -b a ../a main", Some("../a"))]
#[case("cd sub && git worktree add ../w", Some("w"))]
#[case("git -C /r worktree add w", Some("/r/w"))]
#[case("git worktree list", None)]
fn arguments_are_found(#[case] line: &str, #[case] path: Option<&str>) {
    let found = path_arg(&parse(line), "git worktree add", 0).unwrap();
    assert_eq!(found.as_deref(), path);
}

#[rstest]
#[case("git commit -m 'feat: x' -m body", &["feat: x", "body"])]
#[case("git commit -am x", &["x"])]
#[case("git commit --message=x", &["x"])]
#[case("git commit -mx", &["x"])]
#[case("git commit", &[])]
fn values_of_options_are_found(#[case] line: &str, #[case] values: &[&str]) {
    let found = flags(&parse(line), "git commit", &["-m", "--message"]).unwrap();
    assert_eq!(found, values);
}

#[rstest]
#[case("ls -l | wc -l", Effect::Read, &[])]
#[case("cargo test 2>&1 | tail -5", Effect::Check, &[])]
#[case("npm run lint", Effect::Check, &[])]
#[case("npm run deploy", Effect::Edit, &["."])]
#[case("git status && git diff", Effect::Read, &[])]
#[case("git commit -m x", Effect::Repository, &["."])]
#[case("git worktree add w", Effect::Repository, &[])]
#[case("git checkout main", Effect::Edit, &["."])]
#[case("rm -rf a b/../c", Effect::Edit, &["a", "c"])]
#[case("echo x > a/b", Effect::Edit, &["a/b"])]
#[case("echo x >/dev/null 2>&1", Effect::Read, &[])]
#[case("cd sub && rm x", Effect::Edit, &["sub/x"])]
#[case("(cd sub && rm x); rm y", Effect::Edit, &["sub/x", "y"])]
#[case("cat <<EOF > a\nx\nEOF", Effect::Edit, &["a"])]
#[case("cat > a <<EOF\nx\nEOF", Effect::Edit, &["a"])]
#[case("sed -i s/a/b/ x y", Effect::Edit, &["x", "y"])]
#[case("sed s/a/b/ x", Effect::Read, &[])]
#[case("cp a b c", Effect::Edit, &["c"])]
#[case("mv a b", Effect::Edit, &["b", "a"])]
#[case("dd if=a of=b", Effect::Edit, &["b"])]
#[case("ls | tee x", Effect::Edit, &["x"])]
#[case("make install", Effect::Edit, &["."])]
#[case("git -C w reset --hard", Effect::Edit, &["w"])]
#[case("python3 -c 'print(1)'", Effect::Read, &[])]
#[case("apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: a/b\n@@\n-x\n+y\n*** End Patch\nEOF", Effect::Edit, &["a/b"])]
fn effects_and_places_are_told(#[case] line: &str, #[case] effect: Effect, #[case] paths: &[&str]) {
    let effects = effects(&parse(line));
    assert_eq!(
        (effects.effect, effects.unknown_paths),
        (effect, false),
        "{line}"
    );
    assert_eq!(effects.paths, paths, "{line}");
}

#[rstest]
#[case("cd nowhere; echo x > ../src/a")]
#[case("cd w & rm a")]
#[case("cd a || rm b")]
#[case("cd $X && rm b")]
#[case("rm $X")]
#[case("rm *.rs")]
#[case("cd -; rm b")]
#[case("if true; then cd w; fi; rm b")]
#[case("cd w\nrm b")]
fn places_nobody_knows_are_said_to_be_unknown(#[case] line: &str) {
    let effects = effects(&parse(line));
    let stays = effects.paths == ["b"] || effects.paths == ["a"];
    assert!(
        effects.unknown_paths || (line.contains('&') && stays),
        "{line}: {effects:?}"
    );
}

#[test]
fn hostile_lines_end_quickly() {
    let lines = [
        "(".repeat(3000),
        "$(".repeat(3000),
        "\"".repeat(5001),
        "`".repeat(3001),
        "{ ".repeat(3000),
        "a|".repeat(20_000),
        "a;".repeat(100_000),
        "<<EOF ".repeat(2000),
        "bash -c '".repeat(500),
        "x".repeat(1 << 20),
    ];
    let started = tokio::time::Instant::now();
    for line in &lines {
        parse(line);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_breaks_the_parser(line in "[a-z \"'`$(){};&|<>\\\\\n*?=-]{0,60}") {
        let script = parse(&line);
        let _ = (effects(&script), runs(&script, &["git commit"]));
    }

    /// The quick reading and the grammar say the same.
    #[test]
    fn both_readers_agree(line in "(ls|git commit|cd a|echo x|'rm' b|\"c d\")( (&&|;|\\||\\|\\|) (ls|git commit|cd a|rm b)){0,3}") {
        if quick::steps(&line).is_some() {
            let mut slow = Script::default();
            tree::read(&line, Cwd::At(".".into()), 0, &mut slow);
            let quick = parse(&line);
            let words = |script: &Script| -> Vec<Vec<String>> {
                script.commands.iter().map(|c| c.words.iter().map(|w| w.text.clone()).collect()).collect()
            };
            prop_assert_eq!(words(&quick), words(&slow));
            prop_assert_eq!(runs(&quick, &["git commit"]), runs(&slow, &["git commit"]));
        }
    }

    /// A commit stays one whatever harmless stands around it.
    #[test]
    fn surroundings_hide_nothing(
        before in "(true && |cd a && |ls; |X=1 |env A=b |sudo |\\( ){0,1}",
        quoted in 0..4usize,
        nested in 0..3usize,
    ) {
        let git = ["git", "'git'", "g\\it", "\"git\""][quoted];
        let mut line = format!("{before}{git} commit -m x");
        if before.starts_with('(') {
            line.push(')');
        }
        for _ in 0..nested {
            line = format!("bash -c {}", quote(&line));
        }
        prop_assert_eq!(runs(&parse(&line), &["git commit"]), Ok(true), "{}", line);
    }
}

/// Regression: where a pipe stands in a line, and what moves in it, was not seen.
#[test]
fn what_moves_in_a_pipe_moves_nobody() {
    for (line, path) in [
        ("cd locked && echo x | tee a", "locked/a"),
        ("ls | cd src && touch ../x", "../x"),
        ("cd src | ls && touch ../x", "../x"),
        ("cd locked && echo `date` > /dev/null | tee a", "locked/a"),
    ] {
        assert_eq!(effects(&parse(line)).paths, [path], "{line}");
    }
}

/// Regression: behind a pipe of three commands the grammar takes the next line for words of the last one, if its
/// output is redirected.
#[rstest]
#[case("ls | sort | head `x`\ngit commit > /dev/null")]
#[case("ls `x` | sort | head # so\n\ngit commit -m x 2> /dev/null")]
#[case("ls | sort | tee a > b `x`\ngit commit > c")]
#[case("if ls `x`; then ls | sort | head\ngit commit > a\nfi")]
#[case("ls `x` | sort | head\nX=1 git commit > a")]
fn a_line_behind_a_pipe_is_one_of_its_own(#[case] line: &str) {
    assert_ne!(runs(&parse(line), &["git commit"]), Ok(false), "{line}");
}

/// Regression: the grammar takes the words behind a redirection for further files, the shell for words of the command.
#[rstest]
#[case("git > /dev/null commit -m \"$(date)\"")]
#[case("> /dev/null git commit -m \"$(date)\"")]
#[case("true && git 2> /dev/null commit -m \"$(date)\"")]
#[case("2>/dev/null >a git commit -m \"$(date)\"")]
fn words_behind_a_redirection_belong_to_the_command(#[case] line: &str) {
    assert_ne!(runs(&parse(line), &["git commit"]), Ok(false), "{line}");
}
