//! A host's account of its own types: `grpc.reflection.v1`.

use std::collections::BTreeMap;

use prost::Message;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use prost_types::FileDescriptorProto;
use tonic::Status;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Question;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;

use super::failure::ReflectionError;

/// All services of a host, with the types of their messages.
pub(super) async fn services(channel: Channel) -> Result<Vec<ServiceDescriptor>, ReflectionError> {
    let mut host = Host(ServerReflectionClient::new(channel).max_decoding_message_size(usize::MAX));
    let names = host.service_names().await?;
    let mut files = BTreeMap::new();
    for name in &names {
        host.add_files(Question::FileContainingSymbol(name.clone()), &mut files).await?;
    }
    // Some servers send a file with all that it imports, others (tonic's) the file alone.
    while let Some(missing) = first_missing(&files) {
        let question = Question::FileByFilename(missing.clone());
        let answer = || ReflectionError::Answer { question: shown(&question), answer: "other files".to_owned() };
        host.add_files(question.clone(), &mut files).await?;
        if !files.contains_key(&missing) {
            return Err(answer());
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files.into_values())?;
    Ok(names.iter().filter_map(|name| pool.get_service_by_name(name)).collect())
}

type Files = BTreeMap<String, FileDescriptorProto>;

fn first_missing(files: &Files) -> Option<String> {
    files.values().flat_map(|file| &file.dependency).find(|name| !files.contains_key(*name)).cloned()
}

struct Host(ServerReflectionClient<Channel>);

impl Host {
    async fn service_names(&mut self) -> Result<Vec<String>, ReflectionError> {
        let question = Question::ListServices("*".to_owned());
        match self.ask(question.clone()).await? {
            Answer::ListServicesResponse(list) => Ok(list.service.into_iter().map(|service| service.name).collect()),
            other => Err(unexpected(&question, &other)),
        }
    }

    async fn add_files(&mut self, question: Question, files: &mut Files) -> Result<(), ReflectionError> {
        match self.ask(question.clone()).await? {
            Answer::FileDescriptorResponse(answer) => {
                for bytes in answer.file_descriptor_proto {
                    let file = FileDescriptorProto::decode(bytes.as_slice())?;
                    files.insert(file.name().to_owned(), file);
                }
                Ok(())
            }
            other => Err(unexpected(&question, &other)),
        }
    }

    async fn ask(&mut self, question: Question) -> Result<Answer, ReflectionError> {
        let shown = shown(&question);
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let answers = self.0.server_reflection_info(tokio_stream::once(request)).await.map_err(Box::new)?;
        let answer = answers.into_inner().message().await.map_err(Box::new)?.and_then(|answer| answer.message_response);
        match answer {
            Some(Answer::ErrorResponse(error)) => {
                let status =
                    Status::new(error.error_code.into(), format!("{}, asked for {shown}", error.error_message));
                Err(Box::new(status).into())
            }
            Some(answer) => Ok(answer),
            None => Err(ReflectionError::Answer { question: shown, answer: "nothing".to_owned() }),
        }
    }
}

fn unexpected(question: &Question, answer: &Answer) -> ReflectionError {
    let answer = match answer {
        Answer::FileDescriptorResponse(_) => "files",
        Answer::ListServicesResponse(_) => "a list of services",
        _ => "something else",
    };
    ReflectionError::Answer { question: shown(question), answer: answer.to_owned() }
}

fn shown(question: &Question) -> String {
    match question {
        Question::FileByFilename(name) => format!("the file {name}"),
        Question::FileContainingSymbol(name) => format!("the file that has {name}"),
        Question::ListServices(_) => "its services".to_owned(),
        other => format!("{other:?}"),
    }
}
