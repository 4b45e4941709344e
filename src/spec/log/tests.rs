use super::super::observe::tests::place;
use super::*;

/// Lines as they were seen, or as the source writes them.
#[test]
fn telling_lines_are_told_and_others_are_not() {
    let told = [
        (
            "find_slot: non-consecutive token position 12 after 9 for sequence 0",
            LogSignature::NonConsecutivePosition,
        ),
        (
            "0.08.516.240 W srv        decode: failed to find free space in the KV cache, retrying with smaller batch size, off = 0, n_batch = 256, ret = 1",
            LogSignature::KvCacheFull,
        ),
        (
            "0.06.702.260 W slot   operator(): id  0 | task 0 | slot context shift, n_keep = 0, n_left = 511, n_discard = 255",
            LogSignature::ContextShift,
        ),
        (
            "0.05.889.676 I slot   operator(): id  0 | task 29 | forcing full prompt re-processing due to lack of cache data",
            LogSignature::FullReprocessing,
        ),
        (
            "E srv load_model: failed to initialize speculative decoding context: draft-simple requires a draft context",
            LogSignature::SpecInitFailed,
        ),
        (
            "common/ngram-map.cpp:242: common_ngram_map_draft: map.idx_last_check > cur_len: 509 > 256",
            LogSignature::Aborted,
        ),
    ];
    for (line, signature) in told {
        assert_eq!(log_signature(line), Some(signature), "{line}");
    }
    for line in [
        "",
        "0.04.657.580 I slot print_timing: id  1 | task 4 | draft acceptance = 0.56250 (   54 accepted /    96 generated), mean len = 28.00",
        "0.06.646.753 I slot   operator(): id  0 | task 64 | restored context checkpoint (pos_min = 0)",
        "need to evaluate at least 1 token for each active slot",
        "ngram_mod occupancy 0.10",
    ] {
        assert_eq!(log_signature(line), None, "{line}");
    }
}

#[test]
fn lines_are_counted_by_kind_and_bounded() {
    let mut lines = Lines::default();
    let place_a = place("a", "none", "b1");
    let full =
        "failed to find free space in the KV cache\u{1b}[31m, retrying, off = 0, n_batch = 256";
    let now = Duration::ZERO;
    assert!(lines.push(&place_a, full, now) && lines.push(&place_a, full, now));
    assert!(!lines.push(&place_a, "all is well", now));
    let found: Vec<_> = lines.findings().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].evidence,
        "2 times, the last: failed to find free space in the KV cache: 31, 0, 256"
    );
    assert_eq!(found[0].line, Some(LogSignature::KvCacheFull));
    for n in 0..2 * MOST {
        lines.push(&place(&n.to_string(), "none", "b1"), full, now);
    }
    assert_eq!(lines.findings().count(), MOST);
}

/// `unparsed peg-native output` is followed by what the model has said.
#[test]
fn nothing_that_a_model_or_a_user_said_is_kept() {
    let mut lines = Lines::default();
    for line in [
        "common_chat_peg_parse: unparsed peg-native output: the password is hunter2",
        "the password is hunter2: slot context shift, and more: hunter2 n_keep = 7",
    ] {
        assert!(lines.push(&place("a", "none", "b1"), line, Duration::ZERO));
    }
    let all = format!("{:?} {lines:?}", lines.findings().collect::<Vec<_>>());
    assert!(
        !all.contains("password") && !all.contains("hunter"),
        "{all}"
    );
}

#[test]
fn a_line_that_does_not_come_again_is_forgotten() {
    let mut lines = Lines::default();
    let at = |seconds| Duration::from_secs(seconds);
    let full = "failed to find a memory slot for batch";
    lines.push(&place("a", "none", "b1"), full, at(0));
    lines.push(&place("b", "none", "b1"), full, at(3000));
    lines.expire(at(3599));
    assert_eq!(lines.findings().count(), 2);
    lines.expire(at(3600));
    let left: Vec<_> = lines.findings().collect();
    assert_eq!((left.len(), &*left[0].place.backend), (1, "b"));
}
