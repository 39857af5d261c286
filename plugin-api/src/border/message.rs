//! What is seldom called crosses as MessagePack with field names, so that either side may know more fields than the other.

use abi_stable::std_types::RVec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Code;

use crate::error::Error;

/// A message as it crosses.
pub type Message = RVec<u8>;

/// The message that carries this value.
///
/// # Panics
///
/// If the value cannot be written: the types of this crate can.
pub fn encode<T: Serialize>(value: &T) -> Message {
    rmp_serde::to_vec_named(value).expect("types of the contract have no part that MessagePack cannot hold").into()
}

/// The value that a message carries.
///
/// # Errors
///
/// `INTERNAL` where the other side sent something else: a defect of one of the two.
pub fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Error> {
    rmp_serde::from_slice(message).map_err(|source| {
        let expected = std::any::type_name::<T>();
        Error::new(Code::Internal, format!("a message across the plugin border is no {expected}: {source}"))
    })
}
