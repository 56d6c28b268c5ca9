//! Every RPC that the door serves must have a line in the policy's matrix, else the node does not start.

use claviger_core::policy::{Operation, Rule};
use prost::Message;
use prost_types::FileDescriptorSet;

/// The package of the services for callers.
const PACKAGE: &str = "claviger.v1";

/// Walks the services of an encoded `FileDescriptorSet`.
///
/// # Errors
/// The path of the first RPC that nobody has said who may call.
pub fn check_matrix(descriptors: &[u8]) -> Result<(), String> {
    let set = FileDescriptorSet::decode(descriptors).map_err(|_| "a descriptor set that cannot be read")?;
    let ours = set.file.iter().filter(|file| file.package() == PACKAGE);
    for service in ours.flat_map(|file| &file.service) {
        for method in &service.method {
            let path = format!("{PACKAGE}.{}/{}", service.name(), method.name());
            Operation::from_rpc(&path).and_then(Rule::of).ok_or(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_proto::DESCRIPTOR_SET;
    use prost_types::MethodDescriptorProto;

    #[test]
    fn every_rpc_has_a_line() {
        assert_eq!(check_matrix(DESCRIPTOR_SET), Ok(()));
    }

    #[test]
    fn every_line_has_an_rpc() {
        let set = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap();
        let ours = set.file.iter().filter(|file| file.package() == PACKAGE);
        let paths: Vec<String> = ours
            .flat_map(|file| &file.service)
            .flat_map(|s| s.method.iter().map(move |m| format!("{PACKAGE}.{}/{}", s.name(), m.name())))
            .collect();
        assert!(!paths.is_empty());
        for operation in Operation::ALL {
            assert!(paths.iter().any(|path| path == operation.rpc()), "{} is served by nobody", operation.rpc());
        }
    }

    #[test]
    fn refuses_an_rpc_that_nobody_spoke_of() {
        let mut set = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap();
        let file = set.file.iter_mut().find(|file| file.package() == PACKAGE && !file.service.is_empty()).unwrap();
        file.service[0].method.push(MethodDescriptorProto { name: Some("Export".into()), ..Default::default() });
        assert!(check_matrix(&set.encode_to_vec()).unwrap_err().ends_with("/Export"));
    }
}
