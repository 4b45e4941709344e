//! Contents of items: texts, images, and what stands in for the rest.

use serde_json::value::RawValue;

use crate::dialect::json::Members;
use crate::dialect::llama::{REMOTE_MEDIA, names_remote_media};
use crate::turn::{Content, Image, Part, TurnError};

/// One element of `input`. Members of an unexpected kind count as not there: what a client sends
/// back may come from any service.
pub(super) struct Element<'a> {
    members: Members<'a>,
    /// Where it is, for errors.
    pub(super) path: String,
}

impl<'a> Element<'a> {
    pub(super) fn read(path: String, raw: &'a RawValue) -> Result<Self, TurnError> {
        match serde_json::from_str(raw.get()) {
            Ok(members) => Ok(Self { members, path }),
            Err(error) => Err(TurnError::bad_field(&path, format!("`{path}`: {error}"))),
        }
    }

    pub(super) fn error(&self, what: &str) -> TurnError {
        TurnError::bad_field(&self.path, format!("`{}`: {what}", self.path))
    }

    /// A member that is not null.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.members.get(name).filter(|raw| raw.get() != "null")
    }

    /// A member that is a string.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    /// A member that is a string or a list of parts, as parts; nothing when it is not there.
    pub(super) fn parts(&self, name: &str) -> Result<Vec<Part>, TurnError> {
        let Some(raw) = self.raw(name) else {
            return Ok(Vec::new());
        };
        if let Some(text) = self.text(name) {
            return Ok(vec![Part::Text(text)]);
        }
        if !raw.get().starts_with('[') {
            // Results of some tools are objects.
            return Ok(vec![Part::Text(raw.get().to_owned())]);
        }
        let parts: Vec<&RawValue> =
            serde_json::from_str(raw.get()).map_err(|error| self.error(&error.to_string()))?;
        let mut read = Vec::with_capacity(parts.len());
        for (position, raw) in parts.into_iter().enumerate() {
            let path = format!("{}.{name}[{position}]", self.path);
            read.push(part(path, raw)?);
        }
        read.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(read)
    }

    /// The texts of a list of parts, joined.
    pub(super) fn texts(&self, name: &str) -> Result<String, TurnError> {
        let texts = self.parts(name)?.into_iter().filter_map(|part| match part {
            Part::Text(text) => Some(text),
            _ => None,
        });
        Ok(texts.collect::<Vec<_>>().join("\n\n"))
    }

    /// The same as what a tool returned.
    pub(super) fn contents(&self, name: &str) -> Result<Vec<Content>, TurnError> {
        let contents = self.parts(name)?.into_iter().map(|part| match part {
            Part::Image(image) => Content::Image(image),
            Part::Text(text) | Part::Thinking(text) | Part::Other(text) => Content::Text(text),
            Part::ToolCall(_) | Part::ToolResult(_) => Content::Text(String::new()),
        });
        Ok(contents.collect())
    }
}

fn part(path: String, raw: &RawValue) -> Result<Part, TurnError> {
    if raw.get().starts_with('"') {
        let text = serde_json::from_str(raw.get());
        return text
            .map(Part::Text)
            .map_err(|error| TurnError::bad_field(&path, format!("`{path}`: {error}")));
    }
    let part = Element::read(path, raw)?;
    let kind = part.text("type").unwrap_or_default();
    Ok(match kind.as_str() {
        "input_image" | "image_url" | "computer_screenshot" => image(&part)?,
        "input_audio" if names_remote_media(raw) => return Err(part.error(REMOTE_MEDIA)),
        // The backend knows whether its model takes it; the form is that of chat completions.
        "input_audio" => Part::Other(raw.get().to_owned()),
        "refusal" => Part::Text(part.text("refusal").unwrap_or_default()),
        // What a shell returned.
        "" if part.raw("text").is_none() => Part::Text(raw.get().to_owned()),
        _ => Part::Text(
            part.text("text")
                .unwrap_or_else(|| not_passed_on(&part, &kind)),
        ),
    })
}

fn image(part: &Element<'_>) -> Result<Part, TurnError> {
    let nested = part
        .raw("image_url")
        .and_then(|raw| Element::read(part.path.clone(), raw).ok());
    let url = part
        .text("image_url")
        .or_else(|| nested.and_then(|image| image.text("url")));
    let Some(data_url) = url else {
        // A file uploaded to OpenAI's service.
        return Ok(Part::Text(not_passed_on(part, "image")));
    };
    let is_inline = data_url
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    if !is_inline {
        return Err(part.error(REMOTE_MEDIA));
    }
    Ok(Part::Image(Image {
        data_url,
        detail: part.text("detail"),
    }))
}

/// Says that something was there, so that neither the model nor a reader is misled.
pub(super) fn not_passed_on(element: &Element<'_>, kind: &str) -> String {
    let named = element
        .text("filename")
        .map(|name| format!(" named {name}"))
        .unwrap_or_default();
    format!("[An item of type {kind}{named} was here that this gateway cannot pass on.]")
}
