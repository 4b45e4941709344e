//! Rollouts as they are written.

use rstest::rstest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;

fn there_and_back<T: DeserializeOwned + Serialize>(text: &str) -> String {
    let value: T = serde_json::from_value(json!(text)).unwrap();
    let shown = serde_json::to_value(&value).unwrap();
    let again: T = serde_json::from_value(shown.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), shown);
    shown.as_str().unwrap().to_owned()
}

#[test]
fn amounts_are_shown_as_they_were_written() {
    for text in ["5%", "100%", "0.1%", "12.5%", "0%"] {
        assert_eq!(there_and_back::<Percent>(text), text);
    }
    for text in ["-3%", "+5%", "+0.7%", "+150%"] {
        assert_eq!(there_and_back::<Relative>(text), text);
    }
    for text in ["+0.5pp", "-1pp", "+0.05pp"] {
        assert_eq!(there_and_back::<Points>(text), text);
    }
    assert_eq!(there_and_back::<Above>(">+5 %"), "> +5%");
    assert_eq!(Percent(0.05), "5%".parse().unwrap());
    assert_eq!(Relative(-0.03), "-3%".parse().unwrap());
    assert_eq!(Points(0.005), "+0.5pp".parse().unwrap());
    assert!((Relative(-0.5).ln() - 0.5f64.ln()).abs() < 1e-12);
}

#[rstest]
#[case("5")]
#[case("+5%")]
#[case("101%")]
#[case("five%")]
#[case("%")]
#[case("1e1%")]
#[case("-5%")]
#[case("NaN%")]
fn no_shares(#[case] text: &str) {
    let error = text.parse::<Percent>().unwrap_err();
    assert!(error.contains(text) && error.contains("such as"), "{error}");
}

#[rstest]
#[case("3%")]
#[case("-100%")]
#[case("+-3%")]
#[case("+0.5pp")]
#[case("+inf%")]
fn no_differences(#[case] text: &str) {
    assert!(text.parse::<Relative>().is_err());
    assert!(text.parse::<Above>().is_err());
}

#[test]
fn a_number_without_its_unit_is_told_what_is_missing() {
    let error = serde_json::from_value::<Points>(json!(0.5)).unwrap_err();
    assert!(error.to_string().contains("+0.5pp"), "{error}");
    assert!("0.5pp".parse::<Points>().is_err(), "more or less?");
    assert!("+5%".parse::<Above>().is_err());
}

#[test]
fn a_subject_is_a_profile_a_build_or_a_backend() {
    for (given, subject) in [
        (json!("balanced"), Subject::Profile("balanced".into())),
        (json!({"build": "b11500"}), Subject::Build("b11500".into())),
        (json!({"backend": "gpu1"}), Subject::Backend("gpu1".into())),
    ] {
        let parsed: Subject = serde_json::from_value(given.clone()).unwrap();
        assert_eq!(parsed, subject);
        assert_eq!(serde_json::to_value(parsed).unwrap(), given);
    }
    let long = serde_json::from_value::<Subject>(json!({"profile": "x"})).unwrap();
    assert_eq!(long, Subject::Profile("x".into()));
    for bad in [
        json!(3),
        json!({"host": "x"}),
        json!({"build": "x", "backend": "y"}),
    ] {
        assert!(
            serde_json::from_value::<Subject>(bad.clone()).is_err(),
            "{bad}"
        );
    }
}
