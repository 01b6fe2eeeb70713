//! Small texts with pointers in them: event names, CloudEvents subjects, id recipes.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::{
    format::Part,
    paths::{Paths, Places, Slot},
};
use crate::{identity::Recipe, json::Document};

/// Longest event name, in bytes: a longer one is no name.
pub(super) const NAME_BYTES_MAX: usize = 256;

/// Room for a text, in bytes: most are shorter.
const RENDERED_BYTES: usize = 64;

/// Text with pointers in braces.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// A pointer, and the literal text before it.
    pieces: Vec<(Box<str>, Slot)>,
    end: Box<str>,
}

/// One part of an id recipe, ready to be read.
#[derive(Clone, Debug)]
pub(super) enum IdPart {
    Literal(Box<str>),
    Name,
    Value { slots: Vec<Slot>, or_null: bool },
    Hash(Slot),
}

// === impl Template ===

impl Template {
    /// Reads a text; its pointers begin at `base`.
    ///
    /// # Errors
    ///
    /// An open brace without its end, or braces around something that is no pointer.
    pub(super) fn compile(text: &str, base: &str, paths: &mut Paths) -> Result<Self, &'static str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (pointer, after) = behind.split_once('}').ok_or("a brace is not closed")?;
            if !pointer.starts_with('/') {
                return Err("braces hold a pointer, which begins with `/`");
            }
            pieces.push((before.into(), paths.add(&format!("{base}{pointer}"))));
            rest = after;
        }
        Ok(Self { pieces, end: rest.into() })
    }

    /// The pointers in it.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.pieces.iter().map(|(_, slot)| *slot)
    }

    /// The text, if every pointer has a string or number that says something.
    #[must_use]
    pub(super) fn render(&self, document: &Document, places: Places<'_>) -> Option<String> {
        let mut text = String::with_capacity(RENDERED_BYTES);
        for (before, slot) in &self.pieces {
            let value = places.first(document, &[*slot])?;
            text.push_str(before);
            text.push_str(&document.scalar(value)?);
        }
        text.push_str(&self.end);
        (text.len() <= NAME_BYTES_MAX).then_some(text)
    }
}

// === impl IdPart ===

impl IdPart {
    /// Reads a part as [`Part`] describes it.
    pub(super) fn compile(part: &Part, paths: &mut Paths) -> Self {
        let texts = &part.0;
        let first = texts.first().map_or("", String::as_str);
        if first == "{name}" {
            return Self::Name;
        }
        if let Some(pointer) = first.strip_prefix("sha256:") {
            return Self::Hash(paths.add(pointer));
        }
        if !first.starts_with('/') {
            return Self::Literal(first.into());
        }
        let or_null = texts.last().is_some_and(|last| last.ends_with('?'));
        let slots = texts.iter().map(|text| paths.add(text.trim_end_matches('?'))).collect();
        Self::Value { slots, or_null }
    }

    /// Adds this part to a recipe. None: what the part needs is not there.
    #[must_use]
    pub(super) fn add(
        &self,
        recipe: Recipe,
        document: &Document,
        places: Places<'_>,
        name: Option<&str>,
    ) -> Option<Recipe> {
        match self {
            Self::Literal(text) => Some(recipe.part(Some(text))),
            Self::Name => Some(recipe.part(Some(name?))),
            Self::Value { slots, or_null } => {
                let text: Option<Cow<'_, str>> =
                    places.first(document, slots).and_then(|value| document.scalar(value));
                (text.is_some() || *or_null).then(|| recipe.part(text.as_deref()))
            }
            Self::Hash(slot) => {
                let raw = document.raw(places.first(document, &[*slot])?);
                Some(recipe.part(Some(&hex::encode(Sha256::digest(raw)))))
            }
        }
    }
}
