//! The words that requests are classified by, in English, German, French and Spanish, and what each is a sign of.
//!
//! A star is the beginning of a word: `translat*` is "translate" and "translating". Words of several
//! languages that mean other things elsewhere ("die", "tri") are left out.

/// Words of a tool's name that say it changes files.
pub(super) const CHANGES: &[&str] = &[
    "write",
    "edit",
    "multiedit",
    "patch",
    "replace",
    "insert",
    "create",
    "apply",
    "update",
];

/// What a word is a sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// A given text is to come back in other form or language.
    Transform,
    /// The same, if a text is given that it can be about.
    Alter,
    /// Most of the given text stays.
    Keep,
    /// Something new is to be made of the given text, or said about it.
    New,
    /// Hardly used of anything but programs.
    Code,
    /// Seldom said of anything else.
    Technical,
    /// Said of programs as of other things.
    Ambiguous,
    /// Of mathematics and logic, or asks for a chain of thought.
    Reason,
    /// Often said in puzzles, plans and sums.
    Condition,
    /// Asks for a quantity.
    Quantity,
    /// A number in letters.
    Number,
}

/// Everything that is looked for, with commas between.
pub(super) const WORDS: &[(Sign, &str)] = &[
    (
        Sign::Transform,
        "alphabeti*, anonymi*, beautif*, capitali*, copy-edit*, copyedit*, correct, de-duplicate*, \
         deduplicat*, format, indent, lowercase, minif*, paraphras*, prettif*, pretty-print*, \
         proofread*, pseudonymi*, reformat*, rename, rephras*, reword*, rewrit*, sort, spell-check*, \
         spellcheck*, transcribe, translat*, transliterat*, uppercase, write this again, word for word, \
         formatier*, korrigier*, lektorier*, formulier*, sortier*, umformulier*, \
         umschreib*, übersetz*, \
         corrig*, reformul*, réécri*, traduc*, traduis*, traduire, reescrib*, reformatea*, ordena las, \
         ordena los",
    ),
    (
        Sign::Alter,
        "adjust, abbreviate, add, change, clean up, condense, convert*, copy, delete, double, drop, \
         elaborate, expand, fill in, fix, halve, into, keep, lengthen, make, mask, merge, move, number, \
         omit, print, put, redact*, remove, repair*, repeat*, replac*, restore, reverse, round, shift, \
         shorten*, simplif*, split, strip, substitut*, swap*, turn, unify, wrap, \
         ändere, entfern*, ergänz*, ersetz*, kürz*, lösch*, mach, streich*, wandle, wandel*, ins, \
         vereinfach*, setze, \
         abrège*, ajoute*, change*, convertis*, enlève*, mets, mettez, raccourci*, remplac*, simplifie*, \
         supprime*, transforme*, acorta*, añad*, cambia*, conviert*, elimina*, pasa, pásal*, pon, \
         quita*, reemplaz*, sustituy*, en français, en anglais, en allemand, al español, al inglés, \
         al alemán",
    ),
    (
        Sign::Keep,
        "anything else, as it is, as they are, as is, as it was, do not change, do not rephrase, \
         don't change, exactly as, in full, leave everything, leave the rest, keep everything, \
         keep the rest, no other changes, nothing else, otherwise leave, otherwise unchanged, \
         print all of it, print the file, return only, return the, same wording, the full code, \
         the full text, the whole code, the whole file, the whole text, unchanged, without changing, \
         verbatim, sonst nichts, den ganzen text, tout le texte, sans changer, sin cambiar, \
         todo el texto",
    ),
    (
        Sign::New,
        "advi*, analys*, analyz*, answer*, argue*, assess*, bullet-point summary, classif*, comment on, \
         compare, conclusion*, continue, critici*, critique, debug, describe, diagnos*, discuss, \
         evaluate, explain*, extract, feedback, find, help, identify, implement, in one sentence, \
         interpret, key points, list the, main points, opinion*, outline, rate, reply, respon*, review*, \
         solve, suggest*, summar*, takeaway*, tell me, tl;dr, tldr, think, what do, why, write a*, \
         write me, write unit, write tests, \
         analysier*, antwort*, beantwort*, beschreib*, bewert*, erklär*, erläuter*, fasse, fass, \
         in einem satz, kommentier*, vergleich*, worum, zusammenfass*, \
         analyse*, compare*, décri*, expliqu*, répon*, résum*, analiz*, explic*, describ*, respond*, \
         resúm*, resumen, resumir",
    ),
    (
        Sign::Code,
        "angular, apache, apt-get, asyncio, awk, aws, backtrace, bash, borrow checker, c#, c++, cargo, \
         clang, clojure, cmake, codebase, compil*, cors, css, cuda, dataframe, django, docker*, \
         dockerfile, elixir, env var, erlang, eslint, express.js, fastapi, flask, fortran, gcc, git, \
         github actions, golang, goroutine*, gradle, graphql, grep, haskell, html, http request*, \
         idiomatic, in c, in go, in r, java, javascript, jquery, json, julia, jwt, kotlin, kubectl, \
         kubernetes, laravel, linked list, linter, lua, makefile, matlab, maven, mongodb, monorepo, \
         mutex, mypy, mysql, neovim, nginx, node.js, nodejs, npm, numpy, nullpointerexception, ocaml, \
         one-liner, openssl, pandas, perl, php, pip, postgres*, powershell, pytest, python, pytorch, \
         quicksort, rails, react, redis, refactor*, regex*, regular expression*, regulären ausdruck, \
         regulärer ausdruck, expression régulière, expresión regular, rust, scala, sealed interface, \
         segfault*, selenium, semaphore, shell script, solidity, spring boot, sql, sqlite, stack trace, \
         stacktrace, struct, svelte, swiftui, syntax error, systemd, tensorflow, terraform, traceback, \
         typescript, unit test*, unittest*, vue, webpack, xml, yaml, zig",
    ),
    (
        Sign::Technical,
        "algorithm*, algorithmus, api, async, await, backend, bug, cache, callback*, cli, client-side, \
         code, code review, command line, commit*, component*, csv, database*, datenbank, debug*, \
         decorator, deploy*, dictionary, diccionario, endpoint*, enum, env, event loop, exception*, \
         foreign key*, frontend, function*, hash map, hashmap, http, idempotent, implement*, iterator, \
         lambda, linker, linux, log file, macos, middleware, module*, null, parse*, parser, port this, \
         programming, query, rebase, recursi*, repo, repository, retry, retries, runtime, schema, \
         skript, server*, shell, snippet, socket, tcp, tuple, type hint*, url, variable*, webhook, \
         websocket, list comprehension, data structure, lru",
    ),
    (
        Sign::Ambiguous,
        "abstract*, actor, agent, app, branch, browser, build, c, class, classes, column, command, \
         config*, container*, cookie, crash*, dependency, driver, error*, framework, funktion, fonction, \
         función, generic, go, heap, hook*, import*, index, inheritance, integer, interface*, klasse, \
         library, loop, merge, method*, migration, namespace, object, optional, package, pointer*, port, \
         processes, program, programm, programs, promise*, queue, react*, readiness, rest, request, \
         returns, routine, script*, select, services, signature, stack, staged, string*, swift, table, \
         tables, terminal, test, tests, thread*, token, types, undefined, validat*, vector, version, \
         workflow, workspace, bucle, boucle, schleife, fichier, datei, linking, array*, binary",
    ),
    (
        Sign::Reason,
        "assume that, axiom*, calculat*, compute, contradiction, converge*, deduce, deduction, \
         derivative, derive, determinant, diagonal*, divisible, does it follow, eigenvalue*, \
         eigenvector*, equation*, expected number, expected value, factorial, find all, how likely, \
         if and only if, inequality, inequation, integral, integrate, integers, irrational, justif*, \
         lemma, limit of, logic puzzle, logical*, logically, maximi*, minimi*, next number, odds of, \
         permutation*, polynomial, prime number*, probabilit*, proof, proofs, prove, proves, proving, \
         puzzle*, reason through, reasoning, riddle*, rigorous*, show all steps, show that, \
         show your work, solve, square root, step by step, step-by-step, subject to, syllogism, \
         system of, tells the truth, the truth, theorem*, think carefully, think hard, trade-off*, \
         what is the value of, which of the following must, which is larger, which is bigger, \
         which is greater, multiple choice, perimeter, the area of, the volume of, total amount, total cost, true or false, vertices, work out, feasible, weighings, \
         beweis*, berechn*, gleichung*, integriere, leite, löse, primzahl*, rätsel, schritt für schritt, \
         wahrscheinlichkeit, zeige, dass, zeig, dass, \
         calcule*, calculer, démontre*, dérivée, étape par étape, équation, énigme, nombres premiers, \
         probabilité, prouve*, résou*, acertijo, calcula, demuestr*, derivada, ecuación, paso a paso, \
         probabilidad, resuelve",
    ),
    (
        Sign::Condition,
        "relationship between, belong with, statements, all but, altogether, arrange*, at least, at most, at once, between them, can you be sure, \
         cannot be, can't be, cheapest, constraint*, each other, either, every, everyone, exactly, \
         false, fastest, fewest, finite, if all, if every, in total, infinite*, must, must be, no two, \
         older than, only if, optimal, profit, remain*, schedule, shorter than, shortest, \
         smallest, some, sum of, taller than, then, there are, true, twice, unlike, without replacement, \
         wrong, younger than, km/h, mph, percent, interest, mindestens, höchstens, genau, insgesamt, \
         doppelt, au moins, au plus, exactement, la somme, al menos, como máximo, exactamente, los dos, \
         les deux",
    ),
    (
        Sign::Quantity,
        "how far, how fast, how long does, how long will, how long would, how many, how much, how old, \
         how tall, what fraction, what percentage, what is the angle, what day, wie viel*, wieviel*, \
         wie lange, wie weit, combien, cuánt*",
    ),
    (
        Sign::Number,
        "two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, dozen, hundred, thousand, \
         zwei, drei, vier, fünf, sechs, deux, trois, quatre, cinq, dos, tres, cuatro, cinco",
    ),
];
