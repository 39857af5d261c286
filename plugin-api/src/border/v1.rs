//! Interface 1: what a host calls of a plugin, and what a plugin calls of its host.
//!
//! Here are the tables that cross; [`component`] and [`host`] hold, for each of the two, the side that answers and the side
//! that calls. A table's layout never changes: another layout is another interface, under the next number.

pub mod component;
pub mod host;

use abi_stable::StableAbi;
use abi_stable::std_types::{ROption, RResult, RStr, RString, RVec};
use async_ffi::{FfiContext, FfiFuture, FfiPoll};

pub use component::LoadedComponent;
pub use host::{Follow, Host};

use super::http::{FfiRequest, FfiResponse};
use super::log::FfiRecord;
use super::message::Message;

/// The interface's number.
pub const NUMBER: u32 = 1;

/// An answer: a message of what was asked for, or of what went wrong.
pub type FfiReply = RResult<Message, Message>;

/// What a plugin gives: the interface's table.
#[repr(C)]
#[derive(StableAbi)]
pub struct PluginV1 {
    /// The mistakes in a component's configuration (TOML): a message of `Vec<ConfigMistake>`.
    pub check_config: extern "C" fn(config: RStr<'_>) -> Message,
    /// The JSON schema of the configuration; `true` where the author gave none.
    pub schema: extern "C" fn() -> RString,
    /// Makes a component of a configuration (TOML).
    pub create: extern "C" fn(config: RStr<'_>, host: HostV1, settings: Message) -> RResult<ComponentV1, Message>,
}

/// A component, as its plugin hands it out.
#[repr(C)]
#[derive(StableAbi)]
pub struct ComponentV1 {
    data: *const (),
    table: &'static ComponentTableV1,
}

/// What a host calls of a component. Each function but `drop` may be called from several threads at a time.
#[repr(C)]
#[derive(StableAbi)]
pub struct ComponentTableV1 {
    descriptor: unsafe extern "C" fn(*const ()) -> FfiReply,
    start: unsafe extern "C" fn(*const (), Message) -> FfiFuture<FfiReply>,
    activate: unsafe extern "C" fn(*const (), Message) -> FfiFuture<FfiReply>,
    on_peer: unsafe extern "C" fn(*const (), Message) -> FfiFuture<FfiReply>,
    on_stopping: unsafe extern "C" fn(*const (), Message) -> FfiFuture<FfiReply>,
    deactivate: unsafe extern "C" fn(*const (), Message) -> FfiFuture<FfiReply>,
    stop: unsafe extern "C" fn(*const (), Message) -> FfiFuture<FfiReply>,
    snapshot: unsafe extern "C" fn(*const ()) -> FfiFuture<RResult<SnapshotV1, Message>>,
    restore: unsafe extern "C" fn(*const (), SnapshotV1) -> FfiFuture<FfiReply>,
    call: unsafe extern "C" fn(*const (), FfiRequest) -> FfiFuture<FfiResponse>,
    set_log_level: unsafe extern "C" fn(*const (), level: u8),
    /// The library's count: the data is not looked at, and may be null.
    lent_buffers: unsafe extern "C" fn(*const ()) -> usize,
    drop: unsafe extern "C" fn(*const ()),
}

/// A component's state. The receiver owns the file descriptors.
#[repr(C)]
#[derive(StableAbi)]
pub struct SnapshotV1 {
    state_version: u32,
    bytes: RVec<u8>,
    files: RVec<i32>,
}

/// A component's host, as it is handed to a plugin.
#[repr(C)]
#[derive(StableAbi)]
pub struct HostV1 {
    data: *const (),
    table: &'static HostTableV1,
}

/// What a component calls of its host. Each function but `drop` may be called from several threads at a time.
#[repr(C)]
#[derive(StableAbi)]
pub struct HostTableV1 {
    channel: unsafe extern "C" fn(*const (), target: Message) -> ChannelV1,
    peers: unsafe extern "C" fn(*const (), role: Message) -> FfiReply,
    watch_peers: unsafe extern "C" fn(*const (), role: Message) -> RResult<FollowV1, Message>,
    metadata: unsafe extern "C" fn(*const (), Message) -> FfiFuture<FfiReply>,
    watch_metadata: unsafe extern "C" fn(*const (), prefix: Message) -> RResult<FollowV1, Message>,
    is_fenced: unsafe extern "C" fn(*const ()) -> bool,
    fence_is: unsafe extern "C" fn(*const (), fenced: bool) -> FfiFuture<()>,
    spawn: unsafe extern "C" fn(*const (), name: RStr<'_>, FfiFuture<RResult<(), RString>>) -> TaskV1,
    log: unsafe extern "C" fn(*const (), &FfiRecord<'_>),
    drop: unsafe extern "C" fn(*const ()),
}

/// A channel to a peer, owned by the host.
#[repr(C)]
#[derive(StableAbi)]
pub struct ChannelV1 {
    data: *const (),
    call: unsafe extern "C" fn(*const (), FfiRequest) -> FfiFuture<FfiResponse>,
    stop: unsafe extern "C" fn(*const ()),
    drop: unsafe extern "C" fn(*const ()),
}

/// A stream of messages from the host.
#[repr(C)]
#[derive(StableAbi)]
pub struct FollowV1 {
    data: *mut (),
    poll: unsafe extern "C" fn(*mut (), &mut FfiContext<'_>) -> FfiPoll<ROption<Message>>,
    drop: unsafe extern "C" fn(*mut ()),
}

/// A task that the host runs for a component.
#[repr(C)]
#[derive(StableAbi)]
pub struct TaskV1 {
    data: *const (),
    abort: unsafe extern "C" fn(*const ()),
    drop: unsafe extern "C" fn(*const ()),
}

// SAFETY (all of the following): each stands for an `Arc` of something that is `Send` and `Sync` on its own side.
unsafe impl Send for ComponentV1 {}
// SAFETY: as above.
unsafe impl Sync for ComponentV1 {}
// SAFETY: as above.
unsafe impl Send for HostV1 {}
// SAFETY: as above.
unsafe impl Sync for HostV1 {}
// SAFETY: as above.
unsafe impl Send for ChannelV1 {}
// SAFETY: as above.
unsafe impl Sync for ChannelV1 {}
// SAFETY: as above.
unsafe impl Send for TaskV1 {}
// SAFETY: as above.
unsafe impl Sync for TaskV1 {}
// SAFETY: it stands for a `Guarded` stream that is `Send`; there is one owner at a time.
unsafe impl Send for FollowV1 {}

impl Drop for ComponentV1 {
    fn drop(&mut self) {
        // SAFETY: the table came with this data, and this is the last call with it.
        unsafe { (self.table.drop)(self.data) }
    }
}

impl Drop for HostV1 {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { (self.table.drop)(self.data) }
    }
}

impl Drop for ChannelV1 {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { (self.drop)(self.data) }
    }
}

impl Drop for FollowV1 {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { (self.drop)(self.data) }
    }
}

impl Drop for TaskV1 {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { (self.drop)(self.data) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use abi_stable::StableAbi;
    use abi_stable::type_layout::TypeLayout;

    use super::*;

    /// A changed layout of a published interface makes a host refuse every plugin that was built before. So it takes a new
    /// number, and this golden file never changes after a release.
    #[test]
    fn the_layout_is_the_published_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/border/v1.layout");
        let mut layout = String::new();
        describe(<PluginV1 as StableAbi>::LAYOUT, &mut BTreeSet::new(), &mut layout);
        if std::env::var_os("PUBLISH_LAYOUT").is_some() {
            std::fs::write(path, &layout).expect("the golden file is written");
        }
        let published = std::fs::read_to_string(path).expect("the golden file is in the repository");
        assert!(layout == published, "the layout of interface {NUMBER} has changed, give it another number:\n{layout}");
    }

    /// Each type once: size, alignment, fields; then the types that it is made of.
    fn describe(layout: &'static TypeLayout, seen: &mut BTreeSet<String>, text: &mut String) {
        let name = layout.full_type().to_string();
        if !seen.insert(name.clone()) {
            return;
        }
        writeln!(text, "{name}: {} bytes, aligned to {}", layout.size(), layout.alignment()).expect("a string");
        let mut parts = Vec::new();
        for field in layout.get_fields().into_iter().flat_map(|fields| fields.iter()) {
            writeln!(text, "    {}: {}", field.name(), field.full_type()).expect("a string");
            parts.push(field.layout());
            for function in field.function_range().iter() {
                writeln!(text, "        {function}").expect("a string");
                parts.extend(function.param_type_layouts.iter().map(|layout| layout()));
                parts.extend(function.return_type_layout().map(|layout| layout()));
            }
        }
        parts.extend(layout.phantom_fields().iter().map(|field| field.layout()));
        parts.into_iter().for_each(|part| describe(part, seen, text));
    }
}
