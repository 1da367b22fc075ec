//! What happened, line by line, and a digest of it.

use core::fmt;

/// Lines of one run. The digest is always kept, the lines only where somebody wants to read them.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    digest: u64,
    count: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty one.
    pub(crate) fn new(keep: bool) -> Self {
        // FNV-1a: two runs are compared, nobody forges one.
        Self { digest: 0xcbf2_9ce4_8422_2325, count: 0, lines: keep.then(Vec::new) }
    }

    /// Adds a line: virtual time, who, what.
    pub(crate) fn line(&mut self, now: u64, who: &str, what: fmt::Arguments<'_>) {
        let text = format!("{:>6}.{:03} {who:<8} {what}", now / 1000, now % 1000);
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(text);
        }
    }

    /// Digest of all lines.
    pub(crate) fn digest(&self) -> u64 {
        self.digest ^ self.count
    }

    /// The lines, empty where they were not kept.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
