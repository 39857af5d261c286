//! The method that a user means: by its short name, with its service's, or with the whole of it.

use plugin_api::identity::Role;
use prost_reflect::{MethodDescriptor, ServiceDescriptor};

use super::failure::CallError;

/// The one method that `name` means among a host's services.
///
/// A host may play several roles and has services of its own: a short name is looked for in the role's services first,
/// then in all.
pub(super) fn find(services: &[ServiceDescriptor], role: &Role, name: &str) -> Result<MethodDescriptor, CallError> {
    let (own, others): (Vec<&ServiceDescriptor>, Vec<_>) =
        services.iter().partition(|service| is_of(service, role.as_str()));
    for group in [&own, &others] {
        let all = group.iter().flat_map(|service| service.methods());
        let found: Vec<MethodDescriptor> = all.filter(|method| is_called(method, name)).collect();
        match found.as_slice() {
            [] => {}
            [only] => return Ok(only.clone()),
            several => {
                let found = several.iter().map(full_name).collect();
                return Err(CallError::AmbiguousMethod { method: name.to_owned(), found });
            }
        }
    }
    let known = own.iter().chain(&others).flat_map(|service| service.methods());
    Err(CallError::NoSuchMethod { method: name.to_owned(), known: known.map(|method| full_name(&method)).collect() })
}

/// Is it a service of that role: in the package `componenthost.<role>.…`, or called like it?
pub(super) fn is_of(service: &ServiceDescriptor, role: &str) -> bool {
    let in_package = service.package_name().strip_prefix("componenthost.");
    in_package.is_some_and(|rest| rest.split('.').next() == Some(role)) || service.name().eq_ignore_ascii_case(role)
}

fn is_called(method: &MethodDescriptor, name: &str) -> bool {
    let name = name.strip_prefix('/').unwrap_or(name);
    let service = method.parent_service();
    match name.rsplit_once('/').or_else(|| name.rsplit_once('.')) {
        None => method.name() == name,
        Some((of, name)) => method.name() == name && (service.full_name() == of || service.name() == of),
    }
}

fn full_name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}
