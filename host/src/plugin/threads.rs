//! The threads of a generation: those of its own runtime, which have its name.

use std::fs;

/// So much of a thread's name does the system keep.
const KEPT: usize = 15;

/// How many threads of this process have this name. Threads that a component's author has made have other names, and are not
/// counted.
pub(super) fn count(name: &str) -> usize {
    let kept = name.as_bytes().get(..KEPT).unwrap_or(name.as_bytes());
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return 0 };
    // One that ends at this moment cannot be read, and need not be counted.
    let names = threads.flatten().filter_map(|thread| fs::read(thread.path().join("comm")).ok());
    names.filter(|comm| comm.trim_ascii_end() == kept).count()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn threads_are_counted_by_the_name_that_the_system_keeps() {
        let name = "g4711-a-very-long-role";
        assert_eq!(count(name), 0);
        let (end, ended) = mpsc::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let run = move || {
            ready.send(()).expect("it is waited for");
            let _ = ended.recv();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread");
        is_ready.recv().expect("it has begun");
        assert_eq!(count(name), 1);
        drop(end);
        thread.join().expect("no panic");
        assert_eq!(count(name), 0);
    }
}
