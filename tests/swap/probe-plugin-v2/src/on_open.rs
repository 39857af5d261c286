//! What runs when the dynamic loader opens the library, in the child process that looks at it first and in the host.
#![expect(unsafe_code, reason = "only the linker's own array of constructors is run when a library is opened")]

use std::time::Duration;

/// Names a file with one of these words; without the variable, or without the file, nothing happens.
const VARIABLE: &str = "PROBE_ON_OPEN";

// SAFETY: the loader calls each function of this section without an argument that it would have to take; Rust's own library
// needs no setting up before that, and no panic leaves the function, which `extern "C"` would turn into an abort anyway.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = on_open;

extern "C" fn on_open() {
    let file = std::env::var_os(VARIABLE);
    let word = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    match word.trim() {
        "aborts" => std::process::abort(),
        "exits" => std::process::exit(7),
        "hangs" => loop {
            std::thread::park();
        },
        "is slow" => std::thread::sleep(Duration::from_millis(300)),
        _ => {}
    }
}
