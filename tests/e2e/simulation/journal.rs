//! What happened in one run: its last lines are printed with a seed that failed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use crate::simulation::agenda::Moment;

/// Cheap to clone; all clones write into the same journal.
#[derive(Clone)]
pub struct Journal {
    shared: Rc<RefCell<Lines>>,
}

struct Lines {
    now: Moment,
    kept: usize,
    lines: VecDeque<String>,
}

impl Journal {
    /// Of so many lines; those before are forgotten.
    pub fn new(kept: usize) -> Self {
        Self { shared: Rc::new(RefCell::new(Lines { now: Moment::ZERO, kept, lines: VecDeque::new() })) }
    }

    pub fn set_time(&self, now: Moment) {
        self.shared.borrow_mut().now = now;
    }

    pub fn write(&self, line: fmt::Arguments<'_>) {
        let mut shared = self.shared.borrow_mut();
        if shared.kept == 0 {
            return;
        }
        let line = format!("{:>9.3}s {line}", shared.now.as_secs_f64());
        if shared.lines.len() == shared.kept {
            shared.lines.pop_front();
        }
        shared.lines.push_back(line);
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.borrow().lines.iter().try_for_each(|line| writeln!(formatter, "{line}"))
    }
}
