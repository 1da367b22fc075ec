//! The grammar of subjects, as the server reads it (`nats-identity` §7).

/// Whether a server takes this as a subject: tokens between dots, none empty, `>` only as the last, no white space.
pub fn valid_subject(subject: &str) -> bool {
    !subject.chars().any(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}'))
        && subject.split('.').all(|token| !token.is_empty())
        && subject.strip_suffix('>').unwrap_or(subject).split('.').all(|token| token != ">")
}

/// Whether it is a subject without wildcards. A `*` or `>` inside a longer token is none.
pub fn is_literal(subject: &str) -> bool {
    valid_subject(subject) && subject.split('.').all(|token| token != "*" && token != ">")
}

/// Whether every subject that `inner` stands for is one that `outer` stands for.
pub fn contains(outer: &str, inner: &str) -> bool {
    contained(outer, inner, false)
}

/// Containment as the reference library reckons it, where a `*` also covers a `>`: overlaps are refused by that.
pub(crate) fn contains_for_overlap(outer: &str, inner: &str) -> bool {
    contained(outer, inner, true)
}

/// Whether there is a subject that both stand for.
pub fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.').peekable(), b.split('.').peekable());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some(">"), _) if a.peek().is_none() => return true,
            (_, Some(">")) if b.peek().is_none() => return true,
            (Some("*"), _) | (_, Some("*")) => {}
            (Some(x), Some(y)) if x == y => {}
            _ => return false,
        }
    }
}

fn contained(outer: &str, inner: &str, star_covers_rest: bool) -> bool {
    let mut inner = inner.split('.');
    let mut outer = outer.split('.').peekable();
    while let Some(pattern) = outer.next() {
        let Some(token) = inner.next() else { return false };
        match pattern {
            ">" if outer.peek().is_none() => return true,
            "*" if star_covers_rest || token != ">" => {}
            _ if pattern == token => {}
            _ => return false,
        }
    }
    inner.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_as_the_server_takes_them() {
        for good in ["a", "a.b", "*", ">", "a.*.>", "a*.b>", "$SYS.REQ", "a>", "ü.😀", "_INBOX.x"] {
            assert!(valid_subject(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b", "a b", "a\tb", "a\r", "a\n", "a\u{c}", " "] {
            assert!(!valid_subject(bad), "{bad:?}");
        }
    }

    #[test]
    fn literals_have_no_wildcards() {
        assert!(is_literal("a.b*.c>"));
        for other in ["*", "a.*", "a.>", ">", "", "a..b"] {
            assert!(!is_literal(other), "{other}");
        }
    }

    #[test]
    fn containment() {
        for (outer, inner) in [
            (">", "a"),
            (">", "a.>"),
            ("a.*", "a.b"),
            ("a.*", "a.*"),
            ("a.>", "a.*.c"),
            ("a.>", "a.>"),
            ("a", "a"),
        ] {
            assert!(contains(outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in [
            ("a.>", "a"),
            ("a.*", "a.>"),
            ("a.*", "a.b.c"),
            ("a.b", "a"),
            ("a", "a.b"),
            ("a.b", "a.*"),
            ("*", ">"),
        ] {
            assert!(!contains(outer, inner), "{outer} {inner}");
        }
        assert!(contains_for_overlap("*.*", "a.>"));
    }

    #[test]
    fn overlaps() {
        for (a, b) in
            [("a.*", "*.b"), ("a.>", "*.b.c"), (">", "a"), ("a", "a"), ("a.*", "a.>"), ("*.b.>", "a.*.c")]
        {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [("a.*", "*.b.c"), ("a.>", "a"), ("a", "b"), ("a.*.c", "*.b.d"), ("a.b", "a.b.>")] {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }
}
