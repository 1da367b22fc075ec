//! What a wasm module imports and exports: just enough of the binary format to know.
//!
//! Format: WebAssembly Core Specification 2.0, section 5.5 (modules).

/// A module's door: the names on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doors {
    /// `module.name` of each import, in order.
    pub imports: Vec<String>,
    /// Name of each exported function, in order.
    pub functions: Vec<String>,
    /// Name of each other export (memory, globals, tables), in order.
    pub others: Vec<String>,
}

/// Reads a module; none where the bytes are no wasm module.
pub fn doors(module: &[u8]) -> Option<Doors> {
    let mut rest = Bytes(module.strip_prefix(b"\0asm\x01\0\0\0")?);
    let mut doors = Doors::default();
    while !rest.0.is_empty() {
        let section = rest.byte()?;
        let length = rest.number()?;
        let mut body = Bytes(rest.take(length)?);
        match section {
            2 => {
                for _ in 0..body.number()? {
                    let (module, name) = (body.name()?, body.name()?);
                    body.skip_import()?;
                    doors.imports.push(format!("{module}.{name}"));
                }
            }
            7 => {
                for _ in 0..body.number()? {
                    let name = body.name()?;
                    let kind = body.byte()?;
                    body.number()?;
                    if kind == 0 { doors.functions.push(name) } else { doors.others.push(name) }
                }
            }
            _ => continue,
        }
        if !body.0.is_empty() {
            return None;
        }
    }
    Some(doors)
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// An unsigned LEB128 number.
    fn number(&mut self) -> Option<usize> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(number).ok();
            }
        }
        None
    }

    fn name(&mut self) -> Option<String> {
        let length = self.number()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn limits(&mut self) -> Option<()> {
        let flags = self.byte()?;
        self.number()?;
        if flags & 1 == 1 {
            self.number()?;
        }
        Some(())
    }

    /// What follows an import's names.
    fn skip_import(&mut self) -> Option<()> {
        match self.byte()? {
            0 => self.number().map(|_| ()),
            1 => self.byte().and_then(|_| self.limits()),
            2 => self.limits(),
            3 => self.take(2).map(|_| ()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_exports_are_read() {
        // (module (import "a" "f" (func)) (import "a" "m" (memory 1 2)) (import "a" "t" (table 1 funcref))
        //         (import "a" "g" (global i32)) (export "x" (func 0)) (export "y" (memory 0)))
        let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\
            \x02\x1e\x04\x01a\x01f\0\0\x01a\x01m\x02\x01\x01\x02\x01a\x01t\x01\x70\0\x01\x01a\x01g\x03\x7f\0\
            \x07\x09\x02\x01x\0\0\x01y\x02\0";
        let found = doors(module).expect("a module");
        assert_eq!(found.imports, ["a.f", "a.m", "a.t", "a.g"]);
        assert_eq!(
            (found.functions.as_slice(), found.others.as_slice()),
            (&["x".to_owned()][..], &["y".to_owned()][..])
        );
    }

    #[test]
    fn anything_else_is_no_module() {
        assert_eq!(doors(b"\0asm\x01\0\0\0"), Some(Doors::default()));
        assert_eq!(doors(b"\x7fELF"), None);
        assert_eq!(doors(b"\0asm\x01\0\0\0\x02\x7f"), None);
        assert_eq!(doors(b"\0asm\x01\0\0\0\x07\x02\0\0"), None);
    }
}
