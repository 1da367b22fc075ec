//! serde's way from typed values to JSON text: what serde_json writes, byte for byte.

use super::JsonError;
use super::de::Fault;
use super::scan::write_escaped;
use super::tree::NUMBER;
use alloc::string::{String, ToString};
use core::fmt::{Display, Write as _};
use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

impl Error for Fault {
    fn custom<T: Display>(text: T) -> Self {
        JsonError::Shape { text: text.to_string() }.into()
    }
}

/// JSON being written.
#[derive(Default)]
pub(super) struct Writer {
    out: String,
}

impl Writer {
    pub(super) fn into_text(self) -> String {
        self.out
    }

    fn put(&mut self, text: &str) -> Result<(), Fault> {
        self.out.push_str(text);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Fault> {
        write_escaped(text, false, &mut self.out);
        Ok(())
    }

    fn whole(&mut self, number: u64) -> Result<(), Fault> {
        // Writing to a String never fails.
        let _ = write!(self.out, "{number}");
        Ok(())
    }

    fn signed(&mut self, number: i64) -> Result<(), Fault> {
        if number < 0 {
            self.out.push('-');
        }
        self.whole(number.unsigned_abs())
    }

    fn open(&mut self, open: &str, close: &'static str) -> List<'_> {
        self.out.push_str(open);
        List { writer: self, first: true, close }
    }

    /// `{"name":` and what follows.
    fn variant(&mut self, name: &str, open: &str, close: &'static str) -> List<'_> {
        self.out.push('{');
        write_escaped(name, false, &mut self.out);
        self.out.push(':');
        self.open(open, close)
    }
}

fn unknown(what: &str) -> Fault {
    JsonError::Shape { text: [what, " has no place here"].concat() }.into()
}

macro_rules! numbers {
    ($write:ident: $($method:ident $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<(), Fault> {
            self.$write(value.into())
        }
    )*};
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = List<'a>;
    type SerializeStruct = List<'a>;
    type SerializeStructVariant = List<'a>;

    numbers!(signed: serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64);
    numbers!(whole: serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);

    fn serialize_bool(self, value: bool) -> Result<(), Fault> {
        self.put(if value { "true" } else { "false" })
    }

    fn serialize_f32(self, _: f32) -> Result<(), Fault> {
        Err(unknown("a fraction"))
    }

    fn serialize_f64(self, _: f64) -> Result<(), Fault> {
        Err(unknown("a fraction"))
    }

    fn serialize_char(self, value: char) -> Result<(), Fault> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Fault> {
        self.text(value)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Fault> {
        Err(unknown("a string of bytes"))
    }

    fn serialize_none(self) -> Result<(), Fault> {
        self.put("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Fault> {
        self.put("null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        self.put("null")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), Fault> {
        self.text(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        if name != NUMBER {
            return value.serialize(self);
        }
        // A number is written as it was read: without the marks of a text.
        let start = self.out.len();
        value.serialize(&mut *self)?;
        let text = self.out.split_off(start);
        self.put(text.trim_matches('"'))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        let list = self.variant(name, "", "}");
        value.serialize(&mut *list.writer)?;
        list.close()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, Fault> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'a>, Fault> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'a>, Fault> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<List<'a>, Fault> {
        Ok(self.variant(name, "[", "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<List<'a>, Fault> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<List<'a>, Fault> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<List<'a>, Fault> {
        Ok(self.variant(name, "{", "}}"))
    }
}

/// An object or array being written.
pub(super) struct List<'a> {
    writer: &'a mut Writer,
    first: bool,
    close: &'static str,
}

impl List<'_> {
    fn comma(&mut self) {
        if !core::mem::take(&mut self.first) {
            self.writer.out.push(',');
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.comma();
        value.serialize(&mut *self.writer)
    }

    fn member<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Fault> {
        self.name(name);
        value.serialize(&mut *self.writer)
    }

    fn name(&mut self, name: &str) {
        self.comma();
        write_escaped(name, false, &mut self.writer.out);
        self.writer.out.push(':');
    }

    fn close(self) -> Result<(), Fault> {
        self.writer.put(self.close)
    }
}

macro_rules! items {
    ($($list:ident $method:ident),*) => {$(
        impl $list for List<'_> {
            type Ok = ();
            type Error = Fault;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.item(value)
            }

            fn end(self) -> Result<(), Fault> {
                self.close()
            }
        }
    )*};
}
items!(
    SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! members {
    ($($list:ident),*) => {$(
        impl $list for List<'_> {
            type Ok = ();
            type Error = Fault;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Fault> {
                self.member(name, value)
            }

            fn end(self) -> Result<(), Fault> {
                self.close()
            }
        }
    )*};
}
members!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for List<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), Fault> {
        self.comma();
        let start = self.writer.out.len();
        name.serialize(&mut *self.writer)?;
        if !self.writer.out.get(start..).is_some_and(|name| name.starts_with('"')) {
            return Err(unknown("a name that is no text"));
        }
        self.writer.out.push(':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}
