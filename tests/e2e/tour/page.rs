//! The console blocks of a page, as commands and what is shown below each.

use std::collections::BTreeMap;

/// A page with its commands.
pub(super) struct Page<'text> {
    lines: Vec<&'text str>,
    pub(super) steps: Vec<Step>,
}

/// A command, and what it is to print.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Its line, from 1.
    pub(super) line: usize,
    /// With the lines that go on with it, without their marks.
    pub(super) command: String,
    /// The index of the first line after the command.
    first_shown: usize,
    pub(super) shown: Vec<String>,
}

impl<'text> Page<'text> {
    /// Blocks begin with three backticks and `console`; a command with `$ `, and goes on with `> ` as bash shows it.
    pub(super) fn new(text: &'text str) -> Self {
        let lines: Vec<_> = text.lines().collect();
        let mut steps: Vec<Step> = Vec::new();
        let mut inside = false;
        for (index, line) in lines.iter().enumerate() {
            if line.starts_with("```") {
                inside = *line == "```console";
            } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
                let command = command.to_owned();
                steps.push(Step { line: index + 1, command, first_shown: index + 1, shown: Vec::new() });
            } else if let Some(step) = steps.last_mut().filter(|_| inside) {
                match line.strip_prefix('>') {
                    Some(more) if step.shown.is_empty() => {
                        step.command.push('\n');
                        step.command.push_str(more.strip_prefix(' ').unwrap_or(more));
                        step.first_shown = index + 1;
                    }
                    _ => step.shown.push((*line).to_owned()),
                }
            }
        }
        Self { lines, steps }
    }

    /// The page with something else shown below some commands, which are named by their lines.
    pub(super) fn with(&self, printed: BTreeMap<usize, String>) -> String {
        let mut lines: Vec<String> = self.lines.iter().map(|line| (*line).to_owned()).collect();
        for step in self.steps.iter().rev() {
            if let Some(printed) = printed.get(&step.line) {
                let shown = step.first_shown..step.first_shown + step.shown.len();
                lines.splice(shown, printed.lines().map(str::to_owned));
            }
        }
        lines.join("\n") + "\n"
    }
}

#[test]
fn commands_are_found_with_what_is_shown() {
    let text = "$ no\n```console\n$ a\n> b\n>  c\none\ntwo\n$ d\n```\n$ no\n```console\n$ e\nthree\n> four\n```\n";
    let page = Page::new(text);
    let found: Vec<_> =
        page.steps.iter().map(|step| (step.line, step.command.as_str(), step.shown.join("|"))).collect();
    let expected = [(3, "a\nb\n c", "one|two"), (8, "d", ""), (12, "e", "three|> four")];
    assert_eq!(found, expected.map(|(line, command, shown)| (line, command, shown.to_owned())));
    let changed = page.with(BTreeMap::from([(3, "1".to_owned()), (8, "2\n3\n".to_owned())]));
    assert_eq!(changed, text.replace("one\ntwo\n$ d\n", "1\n$ d\n2\n3\n"));
}
