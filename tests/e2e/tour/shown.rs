//! Is what is shown what was printed?

/// Any text in a line; alone in a line, any lines.
const ANY: &str = "...";

/// Is it, line by line?
pub(super) fn is(shown: &[String], printed: &str) -> bool {
    lines_are(shown, &printed.lines().collect::<Vec<_>>())
}

fn lines_are(shown: &[String], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((any, rest)) if any.trim() == ANY => {
            (0..=printed.len()).any(|skipped| lines_are(rest, &printed[skipped..]))
        }
        Some((line, rest)) => {
            printed.split_first().is_some_and(|(first, others)| line_is(line, first) && lines_are(rest, others))
        }
    }
}

fn line_is(shown: &str, printed: &str) -> bool {
    let Some((before, after)) = shown.split_once(ANY) else { return shown == printed };
    let Some(mut left) = printed.strip_prefix(before) else { return false };
    let mut parts: Vec<_> = after.split(ANY).collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.split_once(part) {
            Some((_, rest)) => left = rest,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// What was printed, without what is another each time: ports and timestamps.
pub(super) fn masked(printed: &str) -> String {
    let mask = |line: &str| {
        if let Some((key, _)) = line.split_once("\"createdTimestamp\": ") {
            return format!("{key}\"createdTimestamp\": {ANY}");
        }
        let mut parts = line.split("127.0.0.1:");
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            masked.push_str("127.0.0.1:...");
            masked.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        }
        masked
    };
    printed.lines().map(mask).collect::<Vec<_>>().join("\n")
}

#[test]
fn any_text_and_any_lines_are_taken_for_what_they_are() {
    let page = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (shown, printed) in [
        ("a", "a\n"),
        ("a ... c", "a b c"),
        ("...c...", "abcd"),
        ("...", ""),
        ("a\n...\nd", "a\nb\nc\nd"),
        ("a\n  ...\nd\n...", "a\nd"),
    ] {
        assert!(is(&page(shown), printed), "{shown:?} {printed:?}");
    }
    for (shown, printed) in [
        ("a", "b"),
        ("a", ""),
        ("a", "a\nb"),
        ("a ... c", "a b"),
        ("a...a", "a"),
        ("a\n...\nd", "a\nb"),
        ("...\na", "a\nb"),
    ] {
        assert!(!is(&page(shown), printed), "{shown:?} {printed:?}");
    }
    assert_eq!(
        masked("at 127.0.0.1:4711: x\n  \"createdTimestamp\": \"7\""),
        "at 127.0.0.1:...: x\n  \"createdTimestamp\": ..."
    );
}
