//! Files that programs write because an option says so.

use super::options::has;
use super::word::Word;

/// Options of curl that write files, or read further options.
const CURL_WRITES: &[&str] = &[
    "-o",
    "-O",
    "--output",
    "--remote-name",
    "--remote-name-all",
    "-c",
    "--cookie-jar",
    "-D",
    "--dump-header",
    "--trace",
    "--trace-ascii",
    "--stderr",
    "--etag-save",
    "--hsts",
    "--alt-svc",
    "--libcurl",
    "-K",
    "--config",
];

/// Options of some of them that name a file or directory to write.
const OUTPUTS: &[(&str, &[&str])] = &[
    ("cargo", &["--artifact-dir", "--out-dir"]),
    (
        "go",
        &[
            "-o",
            "-coverprofile",
            "-cpuprofile",
            "-memprofile",
            "-trace",
        ],
    ),
    (
        "pytest",
        &["--basetemp", "--junitxml", "--junit-xml", "--report-log"],
    ),
    (
        "py.test",
        &["--basetemp", "--junitxml", "--junit-xml", "--report-log"],
    ),
    (
        "mypy",
        &[
            "--junit-xml",
            "--html-report",
            "--txt-report",
            "--cache-dir",
        ],
    ),
    ("tsc", &["--outDir", "--outFile", "--declarationDir"]),
    ("eslint", &["-o", "--output-file"]),
    ("jest", &["--outputFile", "--coverageDirectory"]),
    ("vitest", &["--outputFile"]),
    ("ruff", &["-o", "--output-file"]),
];

/// Whether curl writes a file, or reads further options.
pub(super) fn curl_writes(words: &[Word]) -> bool {
    CURL_WRITES.iter().any(|option| has(words, option)) || of_curl(words).next().is_some()
}

/// Files in short options of curl: `-o file`, `-ofile`, `-sLo file`. A letter that takes a value ends a cluster.
pub(super) fn of_curl(words: &[Word]) -> impl Iterator<Item = Word> {
    const VALUED: &str = "AbcCdDeEFhHKmoPQrtTuUwxXyYz";
    words.iter().enumerate().skip(1).filter_map(|(at, word)| {
        let cluster = word
            .text
            .strip_prefix('-')
            .filter(|rest| !rest.starts_with('-'))?;
        let end = cluster.find(|c| VALUED.contains(c))?;
        let (letter, rest) = cluster[end..].split_at(1);
        if !matches!(letter, "o" | "c" | "D") {
            return None;
        }
        match rest {
            "" => words.get(at + 1).cloned(),
            file => Some(Word {
                text: file.to_owned(),
                ..word.clone()
            }),
        }
    })
}

/// Files that a check is told to write: not made again at will, since they may be anybody's.
pub(super) fn of_check<'w>(name: &str, words: &'w [Word]) -> impl Iterator<Item = Word> + use<'w> {
    let found = OUTPUTS.iter().find(|(program, _)| *program == name);
    let options = found.map_or(&[][..], |(_, options)| options);
    words.iter().enumerate().filter_map(move |(at, word)| {
        let rest = options
            .iter()
            .find_map(|option| word.text.strip_prefix(option))?;
        match rest.strip_prefix('=') {
            Some(file) => Some(Word {
                text: file.to_owned(),
                ..word.clone()
            }),
            None if rest.is_empty() => words.get(at + 1).cloned(),
            None => None,
        }
    })
}
