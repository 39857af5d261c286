//! The messages of the three components, and the rules about them that more than one of the three needs.
//!
//! The services and messages are in [`rootcoord`], [`querycoord`] and [`querynode`], made from `proto/`. Beside them:
//!
//! * [`order`]: which of two hits is nearer;
//! * [`batch`]: the queries of a search, checked;
//! * [`files`]: files of vectors, and the folders that they may be read from;
//! * [`name`]: what can be the name of a collection;
//! * [`records`]: collections and segments as they are kept;
//! * [`state`]: what one generation of a component hands to another, with its version;
//! * [`store`]: the metadata of a component behind a trait, so that what is kept there can be tested without a host.
//!
//! It knows no component: what a collection or a placement means is said where it is kept.

pub mod batch;
pub mod files;
pub mod name;
pub mod order;
pub mod records;
pub mod state;
pub mod store;

/// RootCoord's service and messages.
pub mod rootcoord {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("componenthost.rootcoord.v1");

        /// The encoded `FileDescriptorSet` of this package and what it imports, for reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rootcoord.bin"));
    }
}

/// QueryNode's service and messages.
pub mod querynode {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("componenthost.querynode.v1");

        /// The encoded `FileDescriptorSet` of this package and what it imports, for reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/querynode.bin"));
    }
}

/// QueryCoord's service and messages.
pub mod querycoord {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("componenthost.querycoord.v1");

        /// The encoded `FileDescriptorSet` of this package and what it imports, for reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/querycoord.bin"));
    }
}

/// Is this path (`/package.Service/Method`) that of a method in an encoded `FileDescriptorSet`? For tests of what a descriptor
/// names.
pub fn has_method(file_descriptor_set: &[u8], path: &str) -> bool {
    let mut parts = path.strip_prefix('/').unwrap_or_default().split('/').flat_map(|part| part.rsplitn(2, '.'));
    // The package, the service and the method stand there as texts, each with its length before it.
    let is_there = |name: &str| {
        let text = [&[name.len() as u8], name.as_bytes()].concat();
        file_descriptor_set.windows(text.len()).any(|at| at == text)
    };
    path.matches('/').count() == 2 && parts.all(is_there)
}

/// The largest message that the three take, in bytes: room for 16384 queries of 1024 components. tonic's own limit of
/// 4 MiB would refuse searches that the limits of [`batch`] allow.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_by_its_whole_path() {
        let has = |path| has_method(rootcoord::v1::FILE_DESCRIPTOR_SET, path);
        assert!(has("/componenthost.rootcoord.v1.RootCoord/AllocID"));
        let others = ["", "AllocID", "/AllocID", "/componenthost.rootcoord.v1.RootCoord/AllocId"];
        let more = ["/componenthost.querynode.v1.RootCoord/AllocID", "/componenthost.rootcoord.v1.Root/AllocID"];
        for path in others.iter().chain(&more) {
            assert!(!has(path), "{path}");
        }
    }
}
