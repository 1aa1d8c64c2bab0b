//! The calls, over gRPC.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::ProstCodec,
    codegen::http,
    server::{ClientStreamingService, Grpc, NamedService, ServerStreamingService, UnaryService},
};
use uuid::Uuid;

use super::{
    Shared,
    log::{NewRecord, Refused},
    messages::{
        AppendContent, AppendRequest, AppendResponse, AppendResult, ClusterInfo, CurrentRevision,
        DeletePosition, DeleteRequest, DeleteResponse, Empty, EndPoint, Expected, Member, Position,
        ReadRequest, StreamIdentifier, Success, SuccessPosition, SupportedMethod, SupportedMethods,
        UuidValue, WireUuid, WriteOptions, WrongCurrent, WrongExpected, WrongExpectedVersion,
    },
    reading::{Answers, read},
};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// `event_store.client.streams.Streams`.
#[derive(Clone)]
pub(super) struct Streams(pub(super) Arc<Shared>);

/// `event_store.client.gossip.Gossip`.
#[derive(Clone)]
pub(super) struct Gossip(pub(super) Arc<Shared>);

/// `event_store.client.server_features.ServerFeatures`.
#[derive(Clone)]
pub(super) struct Features(pub(super) Arc<Shared>);

/// A service by its name, which answers a path with what follows.
macro_rules! service {
    ($service:ident, $name:literal, |$shared:ident, $path:ident, $request:ident| $answer:expr) => {
        impl NamedService for $service {
            const NAME: &'static str = $name;
        }

        impl tonic::codegen::Service<http::Request<Body>> for $service {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Boxed<Result<Self::Response, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, $request: http::Request<Body>) -> Self::Future {
                let $shared = Arc::clone(&self.0);
                Box::pin(async move {
                    let $path = $request.uri().path().to_owned();
                    let $path = $path.rsplit('/').next().unwrap_or_default();
                    Ok($answer)
                })
            }
        }
    };
}

service!(
    Streams,
    "event_store.client.streams.Streams",
    |shared, path, request| {
        match path {
            "Read" => {
                Grpc::new(ProstCodec::default())
                    .server_streaming(Read(shared), request)
                    .await
            }
            "Append" => {
                Grpc::new(ProstCodec::default())
                    .client_streaming(Append(shared), request)
                    .await
            }
            "Delete" => {
                Grpc::new(ProstCodec::default())
                    .unary(Delete(shared, false), request)
                    .await
            }
            "Tombstone" => {
                Grpc::new(ProstCodec::default())
                    .unary(Delete(shared, true), request)
                    .await
            }
            _ => Status::unimplemented("the stand-in has no such call").into_http(),
        }
    }
);

service!(
    Gossip,
    "event_store.client.gossip.Gossip",
    |shared, _path, request| {
        Grpc::new(ProstCodec::default())
            .unary(ReadGossip(shared), request)
            .await
    }
);

service!(
    Features,
    "event_store.client.server_features.ServerFeatures",
    |shared, _path, request| {
        Grpc::new(ProstCodec::default())
            .unary(ReadFeatures(shared), request)
            .await
    }
);

struct ReadFeatures(Arc<Shared>);

impl UnaryService<Empty> for ReadFeatures {
    type Response = SupportedMethods;
    type Future = Ready<Result<Response<SupportedMethods>, Status>>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        self.0.count_call("GetSupportedMethods");
        let methods = ["read", "append", "delete", "tombstone"].map(|method| SupportedMethod {
            method: method.into(),
            service: "event_store.client.streams.streams".into(),
            features: Vec::new(),
        });
        ready(Ok(Response::new(SupportedMethods {
            methods: methods.into(),
            server_version: "0.0.0".into(),
        })))
    }
}

struct ReadGossip(Arc<Shared>);

impl UnaryService<Empty> for ReadGossip {
    type Response = ClusterInfo;
    type Future = Ready<Result<Response<ClusterInfo>, Status>>;

    fn call(&mut self, _: Request<Empty>) -> Self::Future {
        self.0.count_call("Gossip");
        ready(Ok(Response::new(ClusterInfo {
            members: members(&self.0),
        })))
    }
}

/// This node, and its leader if that is another one.
fn members(shared: &Shared) -> Vec<Member> {
    const FOLLOWER: i32 = 6;
    const LEADER: i32 = 8;
    let node = |state, port: u16| Member {
        instance: Some(wire_id(Uuid::from_u128(port.into()))),
        time_stamp: 0,
        state,
        is_alive: true,
        end_point: Some(EndPoint {
            address: "127.0.0.1".into(),
            port: port.into(),
        }),
    };
    match shared.leader.load(Ordering::Acquire) {
        0 => vec![node(LEADER, shared.port())],
        leader => vec![node(FOLLOWER, shared.port()), node(LEADER, leader)],
    }
}

struct Read(Arc<Shared>);

impl ServerStreamingService<ReadRequest> for Read {
    type Response = super::messages::ReadResponse;
    type ResponseStream = Answers;
    type Future = Boxed<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            shared.admit(request.metadata().clone(), "Read").await?;
            read(&shared, request.into_inner()).map(Response::new)
        })
    }
}

struct Append(Arc<Shared>);

impl ClientStreamingService<AppendRequest> for Append {
    type Response = AppendResponse;
    type Future = Boxed<Result<Response<AppendResponse>, Status>>;

    fn call(&mut self, request: Request<Streaming<AppendRequest>>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            shared.admit(request.metadata().clone(), "Append").await?;
            let mut parts = request.into_inner();
            let first = parts.message().await?.and_then(|part| part.content);
            let Some(AppendContent::Options(options)) = first else {
                return Err(out_of_order());
            };
            let (stream, expected) = target(Some(options))?;
            shared.may_write(&stream)?;
            let most = shared.max_append_size();
            let (mut events, mut bytes) = (Vec::new(), 0);
            while let Some(part) = parts.message().await? {
                let Some(AppendContent::Proposed(event)) = part.content else {
                    return Err(out_of_order());
                };
                let property = |name| event.metadata.get(name).ok_or_else(|| missing(name));
                let type_name = property("type")?;
                property("content-type")?;
                bytes += event.data.len() + event.custom_metadata.len() + 2 * type_name.len();
                if bytes > most {
                    let message = format!("Maximum Append Size of {most} Exceeded.");
                    return Err(Status::invalid_argument(message));
                }
                events.push(NewRecord {
                    id: id(event.id)?,
                    system: event.metadata,
                    metadata: event.custom_metadata,
                    data: event.data,
                });
            }
            let appended = shared.append(&stream, expected, events);
            shared.after_append()?;
            let result = match appended {
                Ok((current, position)) => AppendResult::Success(Success {
                    current: Some(match current {
                        Some(revision) => CurrentRevision::Revision(revision),
                        None => CurrentRevision::NoStream(Empty {}),
                    }),
                    position: Some(SuccessPosition::Position(Position {
                        commit: position,
                        prepare: position,
                    })),
                }),
                Err(Refused::WrongRevision(current)) => {
                    AppendResult::WrongExpectedVersion(wrong(current, expected))
                }
                Err(Refused::Deleted) => return Err(stream_deleted(&stream)),
            };
            Ok(Response::new(AppendResponse {
                result: Some(result),
            }))
        })
    }
}

/// What the server's library says of an exception that nobody caught.
fn out_of_order() -> Status {
    Status::unknown("Exception was thrown by handler.")
}

fn missing(property: &str) -> Status {
    Status::invalid_argument(format!(
        "Required Metadata Property '{property}' is missing"
    ))
}

fn wrong(current: Option<u64>, expected: Expected) -> WrongExpectedVersion {
    WrongExpectedVersion {
        current: Some(match current {
            Some(revision) => WrongCurrent::Revision(revision),
            None => WrongCurrent::NoStream(Empty {}),
        }),
        expected: Some(match expected {
            Expected::Revision(revision) => WrongExpected::Revision(revision),
            Expected::NoStream(_) => WrongExpected::NoStream(Empty {}),
            Expected::Any(_) => WrongExpected::Any(Empty {}),
            Expected::StreamExists(_) => WrongExpected::StreamExists(Empty {}),
        }),
    }
}

/// To delete softly or, if true, for good.
struct Delete(Arc<Shared>, bool);

impl UnaryService<DeleteRequest> for Delete {
    type Response = DeleteResponse;
    type Future = Boxed<Result<Response<DeleteResponse>, Status>>;

    fn call(&mut self, request: Request<DeleteRequest>) -> Self::Future {
        let (shared, for_good) = (Arc::clone(&self.0), self.1);
        Box::pin(async move {
            let call = if for_good { "Tombstone" } else { "Delete" };
            shared.admit(request.metadata().clone(), call).await?;
            let (stream, expected) = target(request.into_inner().options)?;
            shared.may_write(&stream)?;
            let deleted = shared.write(|log| {
                if for_good {
                    log.tombstone(&stream, expected)
                } else {
                    log.delete(&stream, expected)
                }
            });
            match deleted {
                Ok(position) => Ok(Response::new(DeleteResponse {
                    position: Some(DeletePosition::Position(Position {
                        commit: position,
                        prepare: position,
                    })),
                })),
                Err(Refused::Deleted) => Err(stream_deleted(&stream)),
                Err(Refused::WrongRevision(_)) => {
                    let mut status = Status::failed_precondition("wrong expected version");
                    let name = "wrong-expected-version".parse();
                    status
                        .metadata_mut()
                        .insert("exception", name.map_err(not_ascii)?);
                    Err(status)
                }
            }
        })
    }
}

fn not_ascii<E>(_: E) -> Status {
    Status::internal("not ASCII")
}

/// What the server says of a tombstoned stream.
pub(super) fn stream_deleted(stream: &str) -> Status {
    let mut status = Status::failed_precondition(format!("Event stream '{stream}' is deleted."));
    if let Ok(name) = "stream-deleted".parse() {
        status.metadata_mut().insert("exception", name);
    }
    status
}

fn target(options: Option<WriteOptions>) -> Result<(String, Expected), Status> {
    let options = options.ok_or_else(|| Status::invalid_argument("no options"))?;
    let expected = options
        .expected
        .ok_or_else(|| Status::invalid_argument("no expected revision"))?;
    if matches!(expected, Expected::Revision(revision) if i64::try_from(revision).is_err()) {
        return Err(Status::unknown("a revision is a signed number"));
    }
    Ok((name(options.stream)?, expected))
}

/// The name of a stream.
pub(super) fn name(stream: Option<StreamIdentifier>) -> Result<String, Status> {
    let name = stream.map(|stream| stream.stream_name.to_vec());
    name.and_then(|name| String::from_utf8(name).ok())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Status::invalid_argument("no stream name"))
}

fn id(id: Option<WireUuid>) -> Result<Uuid, Status> {
    match id.and_then(|id| id.value) {
        Some(UuidValue::Structured(id)) => {
            let halves = [id.most_significant_bits, id.least_significant_bits];
            let [high, low] = halves.map(|half| u128::from(half.cast_unsigned()));
            Ok(Uuid::from_u128((high << 64) | low))
        }
        Some(UuidValue::Text(text)) => text
            .parse()
            .map_err(|_| Status::invalid_argument("no UUID")),
        None => Err(Status::invalid_argument("no id")),
    }
}

/// An id as the client asks for it.
pub(super) fn wire_id(id: Uuid) -> WireUuid {
    WireUuid {
        value: Some(UuidValue::Text(id.to_string())),
    }
}
