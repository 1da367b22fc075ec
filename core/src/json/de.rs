//! serde's way from JSON text to typed values.
//!
//! Each method is as thin as can be: it is compiled once for every type, the [`Scanner`] once for all.

use super::JsonError;
use super::scan::Scanner;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::{self, Debug, Display, Formatter};
use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

/// The error in one word: as each member of each type hands it on, its size is felt.
pub(super) struct Fault(pub(super) Box<JsonError>);

impl From<JsonError> for Fault {
    #[cold]
    #[inline(never)]
    fn from(error: JsonError) -> Self {
        Self(Box::new(error))
    }
}

impl Debug for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, f)
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl core::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: Display>(text: T) -> Self {
        said(text.to_string())
    }

    // What serde says of its own accord has every kind of value in it, fractions too: said shorter here.
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        awaited(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        awaited(expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        awaited(expected)
    }

    fn unknown_variant(variant: &str, _: &'static [&'static str]) -> Self {
        shape("there is no ", variant)
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        shape("there is no member ", field)
    }

    fn missing_field(field: &'static str) -> Self {
        shape("a member is missing: ", field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        JsonError::Duplicate { member: field.to_string() }.into()
    }
}

fn awaited(expected: &dyn Expected) -> Fault {
    said(format!("expected {expected}"))
}

fn shape(what: &str, name: &str) -> Fault {
    said([what, name].concat())
}

fn said(text: String) -> Fault {
    JsonError::Shape { text }.into()
}

/// The name of a member or variant, for whoever it belongs to.
fn named(name: String) -> StringDeserializer<Fault> {
    StringDeserializer::new(name)
}

fn whole<T: core::str::FromStr>(scanner: &mut Scanner<'_>) -> Result<T, Fault> {
    let text = scanner.number()?;
    // "-0" is a fraction to whoever tells numbers apart.
    let number = if text == "-0" { "" } else { text };
    number.parse().map_err(|_| shape("expected a whole number in its range, not ", text))
}

macro_rules! numbers {
    ($visit:ident: $($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(whole(self)?)
        }
    )*};
}

macro_rules! like {
    ($other:ident: $($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$other(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Scanner<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.peek() {
            Some(b'{') => self.deserialize_map(visitor),
            Some(b'[') => self.deserialize_seq(visitor),
            Some(b'"') => self.deserialize_str(visitor),
            Some(b't' | b'f') => self.deserialize_bool(visitor),
            Some(b'n') => self.deserialize_unit(visitor),
            _ => {
                let text = self.number()?.to_string();
                visitor.visit_newtype_struct(named(text))
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = self.peek() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        visitor.visit_bool(value)
    }

    numbers!(visit_u64: deserialize_u8, deserialize_u16, deserialize_u32, deserialize_u64);
    numbers!(visit_i64: deserialize_i8, deserialize_i16, deserialize_i32, deserialize_i64);

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_string(self.string()?)
    }

    like!(deserialize_str: deserialize_string, deserialize_identifier, deserialize_char);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.peek() == Some(b'n') {
            self.word("null")?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.peek();
        self.word("null")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.enter(b'[')?;
        let mut inside = Inside { scanner: self, first: true, close: b']', ended: false };
        let value = visitor.visit_seq(&mut inside)?;
        inside.leave()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.enter(b'{')?;
        let mut inside = Inside { scanner: self, first: true, close: b'}', ended: false };
        let value = visitor.visit_map(&mut inside)?;
        inside.leave()?;
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if self.peek() == Some(b'"') {
            let name = self.string()?;
            return visitor.visit_enum(Variant { scanner: self, name, has_content: false });
        }
        self.enter(b'{')?;
        let name = self.name()?;
        let value = visitor.visit_enum(Variant { scanner: &mut *self, name, has_content: true })?;
        Inside { scanner: self, first: false, close: b'}', ended: false }.leave()?;
        Ok(value)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.skip()?;
        visitor.visit_unit()
    }

    // No type of ours has these.
    like!(deserialize_any: deserialize_f32, deserialize_f64, deserialize_bytes, deserialize_byte_buf);
}

/// The inside of an object or an array.
struct Inside<'a, 'de> {
    scanner: &'a mut Scanner<'de>,
    first: bool,
    close: u8,
    ended: bool,
}

impl Inside<'_, '_> {
    fn more(&mut self) -> Result<bool, Fault> {
        if self.ended {
            return Ok(false);
        }
        let more = self.scanner.more(&mut self.first, self.close)?;
        self.ended = !more;
        Ok(more)
    }

    /// The name of the next member.
    fn name(&mut self) -> Result<Option<String>, Fault> {
        if self.more()? { self.scanner.name().map(Some) } else { Ok(None) }
    }

    /// All of it must have been read.
    fn leave(mut self) -> Result<(), Fault> {
        if self.more()? { Err(self.scanner.fault()) } else { Ok(()) }
    }
}

impl<'de> SeqAccess<'de> for &mut Inside<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        if self.more()? { seed.deserialize(&mut *self.scanner).map(Some) } else { Ok(None) }
    }
}

impl<'de> MapAccess<'de> for &mut Inside<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        match self.name()? {
            Some(name) => seed.deserialize(named(name)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(&mut *self.scanner)
    }
}

/// A variant: a text, or an object with one member.
struct Variant<'a, 'de> {
    scanner: &'a mut Scanner<'de>,
    name: String,
    has_content: bool,
}

impl<'a, 'de> Variant<'a, 'de> {
    fn content(self) -> Result<&'a mut Scanner<'de>, Fault> {
        if self.has_content {
            Ok(self.scanner)
        } else {
            Err(said("the content of a variant is missing".to_string()))
        }
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(mut self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name = core::mem::take(&mut self.name);
        Ok((seed.deserialize(named(name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        if self.has_content { serde::Deserialize::deserialize(self.scanner) } else { Ok(()) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.content()?.deserialize_map(visitor)
    }
}
