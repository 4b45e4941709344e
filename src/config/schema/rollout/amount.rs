//! Amounts as people write them: `5%`, `-3%`, `> +5%`, `+0.5pp`.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A share: `5%` is 0.05.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

/// A relative difference: `-3%` is -0.03.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Relative(pub f64);

/// A difference of two rates in percentage points: `+0.5pp` is 0.005.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Points(pub f64);

/// More than a relative difference: `> +5%`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Above(pub Relative);

impl Relative {
    /// The difference of logarithms that it stands for.
    pub fn ln(self) -> f64 {
        self.0.ln_1p()
    }
}

/// The number before `unit`, in hundredths; a sign is needed where `signed`.
fn hundredths(text: &str, unit: &str, signed: bool) -> Option<f64> {
    let number = text.trim().strip_suffix(unit)?.trim_end();
    let has_sign = number.starts_with(['+', '-']);
    let plain = number.trim_start_matches(['+', '-']);
    let digits = plain.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !digits || (has_sign != signed && number != "0") {
        return None;
    }
    let value: f64 = number.parse().ok()?;
    // 5 is 5e-2 and not 5 × 0.01: what is shown reads as it was written.
    format!("{value}e-2").parse().ok()
}

/// The same the other way: shortest digits that read back as the same number.
fn shown(value: f64) -> f64 {
    let hundred = value * 100.0;
    let rounded = (hundred * 1e9).round() / 1e9;
    // No -0.
    rounded + 0.0
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = hundredths(text, "%", false).filter(|share| *share <= 1.0);
        let share = share.ok_or_else(|| format!("`{text}` is not a share such as 5% or 100%"))?;
        Ok(Self(share))
    }
}

impl FromStr for Relative {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let amount = hundredths(text, "%", true).filter(|amount| *amount > -1.0);
        let bad = || format!("`{text}` is not a difference such as -3% or +5%, with its sign");
        Ok(Self(amount.ok_or_else(bad)?))
    }
}

impl FromStr for Points {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let points = hundredths(text, "pp", true).filter(|points| points.abs() <= 1.0);
        let bad = || format!("`{text}` is not a difference in percentage points such as +0.5pp");
        Ok(Self(points.ok_or_else(bad)?))
    }
}

impl FromStr for Above {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let amount = text.trim().strip_prefix('>').map(str::trim);
        let amount = amount.and_then(|amount| amount.parse().ok());
        let bad = || format!("`{text}` is not a bound such as `> +5%`");
        Ok(Self(amount.ok_or_else(bad)?))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", shown(self.0))
    }
}

impl fmt::Display for Relative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+}%", shown(self.0))
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+}pp", shown(self.0))
    }
}

impl fmt::Display for Above {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "> {}", self.0)
    }
}

macro_rules! as_text {
    ($($name:ident: $format:literal, $example:literal;)+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text(concat!("text such as `", $example, "`")))?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format })
            }
        }
    )+};
}

as_text! {
    Percent: "percent", "5%";
    Relative: "signed percent", "-3%";
    Points: "percentage points", "+0.5pp";
    Above: "bound", "> +5%";
}

/// Takes text and says what it would have been of anything else: a number without its unit is the usual mistake.
struct Text(&'static str);

impl de::Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}
