//! The error of what a component asks its host for: a gRPC code, a text, and the host's reason where there is one.

use serde::{Deserialize, Serialize};
use tonic::{Code, Status};

use crate::refusal::{Reason, Refusal};

/// Any error, as the methods of [`crate::Component`] return it, so that `?` takes whatever the author's code gives.
///
/// Where it is an [`Error`] or a [`tonic::Status`] its code is kept; of any other the whole chain is kept as text.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error with a code that a caller can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Error {
    code: i32,
    message: String,
    reason: Option<Reason>,
}

impl Error {
    /// An error with this code and text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into(), reason: None }
    }

    /// The same with the host's reason, as [`Reason`] has it.
    #[must_use]
    pub fn with_reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// An error of the component's own: `INTERNAL`, with the source's whole chain as its text.
    pub fn internal(source: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(Code::Internal, chain(source))
    }

    /// What a method of the component returned, with its code where it has one.
    pub fn from_boxed(source: &BoxError) -> Self {
        if let Some(error) = source.downcast_ref::<Self>() {
            error.clone()
        } else if let Some(status) = source.downcast_ref::<Status>() {
            Self::new(status.code(), status.message())
        } else {
            Self::internal(source.as_ref())
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        Code::from_i32(self.code)
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Why the host refused, where it did.
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }
}

impl From<Error> for Status {
    /// A reason of the host's goes along as a [`Refusal`], so that a caller sees why.
    fn from(error: Error) -> Self {
        match error.reason {
            // What the component had done before it asked the host, nobody knows here.
            Some(reason) => Refusal::new(reason, error.message).maybe_executed().into_status(),
            None => Self::new(error.code(), error.message),
        }
    }
}

/// The error's text and those of its sources, joined by `: `.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
