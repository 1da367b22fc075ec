//! The words of JSON, read one by one; strings, written.

use super::JsonError;
use super::de::Fault;
use alloc::string::String;

/// Reads JSON text from its beginning. None of it is generic: whoever reads types or trees calls this.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    limit: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, limit: usize) -> Self {
        Self { text, at: 0, depth: 0, limit }
    }

    pub(super) fn utf8(text: &'a [u8], limit: usize) -> Result<Self, Fault> {
        match core::str::from_utf8(text) {
            Ok(text) => Ok(Self::new(text, limit)),
            Err(error) => Err(JsonError::Syntax { at: error.valid_up_to() }.into()),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        JsonError::Syntax { at: self.at }.into()
    }

    /// The next byte that is no white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.here() {
            self.at += 1;
        }
        self.here()
    }

    fn here(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Fault> {
        let byte = self.here().ok_or_else(|| self.fault())?;
        self.at += 1;
        Ok(byte)
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.here() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        self.peek();
        if self.accept(byte) { Ok(()) } else { Err(self.fault()) }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault()),
        }
    }

    pub(super) fn word(&mut self, word: &str) -> Result<(), Fault> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.fault())
        }
    }

    /// Goes into an object or array; [`more`](Self::more) goes on and out again.
    pub(super) fn enter(&mut self, open: u8) -> Result<(), Fault> {
        self.expect(open)?;
        self.depth += 1;
        if self.depth > self.limit { Err(JsonError::Depth { limit: self.limit }.into()) } else { Ok(()) }
    }

    /// Whether another member or item follows; where none does, this goes out of the object or array.
    pub(super) fn more(&mut self, first: &mut bool, close: u8) -> Result<bool, Fault> {
        self.peek();
        if self.accept(close) {
            self.depth -= 1;
            return Ok(false);
        }
        if !core::mem::take(first) {
            self.expect(b',')?;
            self.peek();
        }
        Ok(true)
    }

    /// A member's name and the colon behind it.
    pub(super) fn name(&mut self) -> Result<String, Fault> {
        let name = self.string()?;
        self.expect(b':')?;
        Ok(name)
    }

    pub(super) fn string(&mut self) -> Result<String, Fault> {
        self.expect(b'"')?;
        let mut text = String::new();
        loop {
            let start = self.at;
            while self.here().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            text.push_str(self.text.get(start..self.at).ok_or_else(|| self.fault())?);
            match self.next()? {
                b'"' => return Ok(text),
                b'\\' => text.push(self.escape()?),
                _ => return Err(self.fault()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        Ok(match self.next()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                let code = if (0xd800..0xdc00).contains(&first) {
                    self.word("\\u")?;
                    let second = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(self.fault());
                    }
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                char::from_u32(code).ok_or_else(|| self.fault())?
            }
            _ => return Err(self.fault()),
        })
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = char::from(self.next()?).to_digit(16).ok_or_else(|| self.fault())?;
            code = code * 16 + digit;
        }
        Ok(code)
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.here().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.fault()) }
    }

    /// A number as it is written.
    pub(super) fn number(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let start = self.at;
        self.accept(b'-');
        if !self.accept(b'0') {
            self.digits()?;
        }
        if self.accept(b'.') {
            self.digits()?;
        }
        if self.accept(b'e') || self.accept(b'E') {
            if !self.accept(b'+') {
                self.accept(b'-');
            }
            self.digits()?;
        }
        self.text.get(start..self.at).ok_or_else(|| self.fault())
    }

    /// Passes over a value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let mut first = true;
        match self.peek() {
            Some(b'{') => {
                self.enter(b'{')?;
                while self.more(&mut first, b'}')? {
                    self.name()?;
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.enter(b'[')?;
                while self.more(&mut first, b']')? {
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number().map(drop),
        }
    }
}

/// Writes a string in quotation marks; `html` escapes `<`, `>`, `&`, U+2028 and U+2029 as well.
pub(crate) fn write_escaped(text: &str, html: bool, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    // What needs no escape, nearly always all of it, goes over in one piece. (U+2028 and U+2029 begin with the byte E2.)
    let special = |byte: u8| match byte {
        b'"' | b'\\' | 0..=0x1f => true,
        b'<' | b'>' | b'&' | 0xe2 => html,
        _ => false,
    };
    let mut rest = text;
    while let Some(at) = rest.bytes().position(special) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = tail.chars();
        let found = chars.next().unwrap_or_default();
        let short = match found {
            '"' | '\\' => found,
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 'u',
            _ => '\0',
        };
        if short == '\0' {
            out.push(found);
        } else {
            out.push('\\');
            out.push(short);
        }
        if short == 'u' {
            let code = u32::from(found);
            for shift in [12, 8, 4, 0] {
                out.extend(HEX.get(((code >> shift) & 15) as usize).map(|digit| char::from(*digit)));
            }
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}
