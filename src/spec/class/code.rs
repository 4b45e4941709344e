//! Programs in a text, and names of their files.

/// Whether lines of a program are in a text of lower case.
pub(super) fn code_lines(text: &str) -> bool {
    const SIGNS: &[&str] = &[
        "```",
        "def ",
        "fn ",
        "func ",
        "class ",
        "import ",
        "#include",
        "const ",
        "let ",
        "return ",
        "</",
        "};",
        "){",
        ") {",
        "->",
        "=>",
        "diff --git",
        "select ",
        "public ",
        "private ",
        "static ",
        "void ",
        "int ",
        "var ",
        "for (",
        "if (",
        "while (",
        "print(",
        "use ",
        "from ",
        "struct ",
        "enum ",
        "impl ",
        "package ",
        " := ",
        "+++ ",
        "--- a/",
        "@@ -",
    ];
    let is_code = |line: &str| {
        !line.contains("-->")
            && SIGNS.iter().any(|sign| match sign.as_bytes()[0] {
                b'a'..=b'z' => {
                    line.starts_with(sign) && line.contains(['(', '{', '=', ';', ':', '*'])
                }
                _ => line.contains(sign),
            })
    };
    // Not of JSON, which is a text like others.
    let opens = |line: &str| line.len() > 2 && line.ends_with(" {") && !line.contains('"');
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| is_code(line) || opens(line))
        .take(2)
        .count()
        == 2
        || text.contains("```")
}

/// `src/main.rs`, `app.py:12`.
pub(super) fn names_file(text: &str) -> bool {
    const KINDS: &[&str] = &[
        "rs", "py", "js", "ts", "tsx", "jsx", "go", "c", "h", "cc", "cpp", "hpp", "java", "kt",
        "rb", "php", "cs", "swift", "sh", "sql", "toml", "yaml", "yml", "json", "css", "html",
        "vue", "md", "erb", "lua", "ini", "xml", "proto", "tf", "scala", "ex", "exs", "svelte",
    ];
    text.split_whitespace().any(|word| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        let name = word.split(':').next().unwrap_or_default();
        let Some((stem, kind)) = name.rsplit_once('.') else {
            return false;
        };
        stem.contains(char::is_alphanumeric) && KINDS.contains(&kind)
    })
}
