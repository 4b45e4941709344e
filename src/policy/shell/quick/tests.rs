//! The quick reader against the grammar.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use rstest::rstest;

use crate::policy::shell::word::Word;
use crate::policy::shell::{Cwd, Script, plain, quick, tree};

/// What a line runs, as two ways to read it have to agree on.
fn told(script: &Script) -> Vec<String> {
    let words = |words: &[Word]| -> Vec<_> {
        words
            .iter()
            .map(|w| (w.text.clone(), w.fixed, w.span.clone()))
            .collect()
    };
    let each = script.commands.iter().map(|command| {
        let (said, mut writes) = (words(&command.words), words(&command.writes));
        // In which order files are opened matters to nobody.
        writes.sort_by_key(|(_, _, span)| span.clone().map(|span| span.start));
        format!(
            "{said:?} {writes:?} {:?} {:?} {}",
            command.cwd, command.stdin, command.open
        )
    });
    each.collect()
}

/// Whether both readers agree; none where only the grammar reads it.
fn agree(line: &str) -> Option<bool> {
    let steps = quick::steps(line)?;
    let (mut quickly, mut fully) = (Script::default(), Script::default());
    plain(steps, Cwd::At(".".to_owned()), 0, &mut quickly);
    tree::read(line, Cwd::At(".".to_owned()), 0, &mut fully);
    if quickly.unknown.is_none() && fully.unknown == Some(tree::MISREAD) {
        // The grammar has lost its way, and says so.
        return None;
    }
    let same = told(&quickly) == told(&fully) && quickly.unknown == fully.unknown;
    if !same {
        println!(
            "{line}\n{:#?} {:?}\n{:#?} {:?}",
            told(&quickly),
            quickly.unknown,
            told(&fully),
            fully.unknown
        );
    }
    Some(same)
}

#[rstest]
#[case("cargo test policy 2>&1 | tail -20")]
#[case("make > out.log 2>&1 && cat out.log")]
#[case("sort < a >> \"b c\"")]
#[case("ls 2>/dev/null; pwd")]
#[case("git push origin \"$BRANCH\"")]
#[case("echo ${HOME}/x $USER \"a $b c\"")]
#[case("cd \"$dir\" && rm x")]
#[case("grep -c x <a.txt | wc -l")]
#[case("echo hi &> all.txt")]
#[case("$CMD x")]
#[case("for f in a b; do grep -n \"$f\" src; done")]
#[case("for f in *.rs {1..3} \"$X\"\ndo\n  cd a && rm x; rm y\ndone; rm z")]
#[case("cd a && for f in b; do rm x; rm y; done && rm z || rm w")]
#[case("if cd a; then rm x; elif ls; then rm y; else rm z; fi && rm w")]
#[case("while ls | grep x; do for f in a; do cd a; done; rm y; done\nrm z")]
#[case("until ls; do\n# nothing\n\nrm y\ndone")]
#[case("ls\n\n# so\ncd a\nrm b\n")]
#[case("cat <<'EOF' > a/b\nit's $X \\ `x`\n\nEOF")]
#[case("cat > a <<EOF\ngit commit\nEOF\ncat a")]
#[case("cd a && python3 <<\"X\" 2>&1\nprint(1)\nX\nls")]
#[case("ls | sort <<E\na\nE\n")]
#[case("bash <<'EOF'\ngit commit -m x\nEOF")]
#[case("git commit -m \"$(cat <<'EOF'\nfix: it's \"x\" (y)\n\nbody\nEOF\n)\" && git push")]
#[case("cd a && bash -c \"$(cat <<EOF\ngit commit\nEOF\n)\"")]
#[case("git reset HEAD~1 a~ 'b'c~ && ls")]
#[case("cd a && ls | rm b && rm c")]
#[case("ls | cd a && rm b")]
#[case("cd a && cd ..; rm b")]
#[case("ls | sort | head\necho x > a/b")]
#[case("cd a && ls | sort | head && rm b > c")]
#[case("ls | sort | cd a && rm b")]
#[case("cd a && sort < b > c | head && rm d")]
fn the_quick_reader_agrees_with_the_grammar(#[case] line: &str) {
    assert_eq!(agree(line), Some(true));
}

proptest! {
    #[test]
    fn wherever_it_reads_at_all(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "git", "commit", "push", "cd", "sub", "..", "bash", "-c", "'git commit'", "\"a b\"", "$X", "\"$X\"", "${Y}z", "env", "X=1",
        "&&", "||", "|", ";", ">", ">>", "2>", "2>&1", "<", "&>", "a.txt", "/dev/null", "xargs", "sudo", "echo", "2", "-m",
    ]), 1..10)) {
        let line = pieces.join(" ");
        prop_assert_ne!(agree(&line), Some(false), "{}", line);
    }

    /// The same of lines that are well-formed more often: loops, conditions, here-documents, some of each.
    #[test]
    fn wherever_it_reads_blocks(line in blocks()) {
        prop_assert_ne!(agree(&line), Some(false), "{}", line);
    }
}

/// Lines of several commands, in and around loops and conditions.
fn blocks() -> impl Strategy<Value = String> {
    let simple = proptest::sample::select(vec![
        "ls",
        "git commit -m \"$X\"",
        "cd a",
        "cd ..",
        "cd /b",
        "rm x",
        "bash -c 'rm y'",
        "echo x > a/b",
        "xargs rm",
        "sh <<'E'\ncd a; rm x\nE",
        "cat > f <<E\nit's\nE",
        "bash -c \"$(cat <<'E'\nrm z\nE\n)\"",
        "sort < a > b",
        "# x",
    ]);
    let simple = simple.prop_map(str::to_owned);
    simple.prop_recursive(4, 24, 4, |inner| {
        let join = proptest::sample::select(vec![" && ", " || ", "; ", "\n", " | ", "\n\n# x\n"]);
        let list = (inner.clone(), join, inner.clone());
        prop_oneof![
            // Behind the last line of a here-document nothing may stand.
            list.prop_map(|(one, join, other)| {
                let join = if one.ends_with("\nE") { "\n" } else { join };
                format!("{one}{join}{other}")
            }),
            inner
                .clone()
                .prop_map(|body| format!("for f in a *.b \"$Y\"; do {body}\ndone")),
            inner
                .clone()
                .prop_map(|body| format!("until {body}\ndo ls; {body}\ndone")),
            (inner.clone(), inner.clone())
                .prop_map(|(test, body)| format!("while {test}\ndo\n{body}\ndone")),
            (inner.clone(), inner.clone(), inner).prop_map(|(test, one, other)| {
                format!("if {test}\nthen {one}\nelif {other}\nthen\n{one}\nelse {other}\nfi")
            }),
        ]
    })
}

/// Blocks are read quickly, not merely left to the grammar.
#[test]
fn most_blocks_need_no_grammar() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut line = || blocks().new_tree(&mut runner).unwrap().current();
    let lines: Vec<String> = (0..500).map(|_| line()).collect();
    let read = lines.iter().filter(|line| quick::steps(line).is_some());
    let read = read.count();
    assert!(read > 250, "{read} of 500");
}
