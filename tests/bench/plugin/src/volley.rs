//! Many calls, a part of them at the same time, and how long they took: the same code in a plugin and in a plain program.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use tonic::Status;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;

use crate::target::data;
use crate::v1::target_client::TargetClient;
use crate::v1::{Measured, Payload, Place, Volley};

/// The seconds of each call of one caller.
pub type Times = Result<Vec<f64>, Status>;

/// What a call goes over.
pub trait Way:
    GrpcService<Body, ResponseBody = Body, Error: Into<StdError>, Future: Send> + Clone + Send + 'static
{
}

impl<T> Way for T where
    T: GrpcService<Body, ResponseBody = Body, Error: Into<StdError>, Future: Send> + Clone + Send + 'static
{
}

/// Makes the calls over these ways in turn, in the place that the volley names; `spawn` begins a task.
///
/// # Errors
///
/// That of a call that failed, or what became of a task.
pub async fn fly<T, H, E>(
    ways: Vec<T>,
    volley: Volley,
    spawn: impl Fn(BoxFuture<'static, Times>) -> H,
) -> Result<Measured, Status>
where
    T: Way,
    H: Future<Output = Result<Times, E>>,
    E: Display,
{
    match volley.place() {
        Place::Handler => joined(ways, volley).await,
        Place::Task => {
            let ended = |ended: E| Status::aborted(ended.to_string());
            // Each has begun before one of them is waited for.
            let begin = Instant::now();
            let tasks: Vec<_> = callers(ways, volley).map(|caller| spawn(Box::pin(caller))).collect();
            let mut times = Vec::new();
            for task in tasks {
                times.extend(task.await.map_err(ended)??);
            }
            Ok(measured(begin.elapsed(), times))
        }
        Place::Thread => {
            let (send, receive) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let result = runtime.map_err(Status::from).and_then(|own| own.block_on(joined(ways, volley)));
                // Nobody waits for it where the call was dropped.
                let _ = send.send(result);
            });
            receive.await.map_err(|_| Status::aborted("the thread has panicked"))?
        }
    }
}

/// In one task, which waits for all of them.
async fn joined<T: Way>(ways: Vec<T>, volley: Volley) -> Result<Measured, Status> {
    let begin = Instant::now();
    let times = try_join_all(callers(ways, volley)).await?;
    Ok(measured(begin.elapsed(), times.concat()))
}

/// Those that call at the same time, each one call after another.
fn callers<T: Way>(
    ways: Vec<T>,
    volley: Volley,
) -> impl Iterator<Item = impl Future<Output = Times> + Send + use<T>> + use<T> {
    let (at_once, data) = (volley.at_once.max(1), data(volley.size));
    let each = volley.calls / at_once;
    let ways: Vec<_> = ways.iter().cycle().take(at_once as usize).cloned().collect();
    ways.into_iter().map(move |way| caller(way, each, data.clone()))
}

async fn caller<T: Way>(way: T, calls: u32, data: Bytes) -> Times {
    let mut client = TargetClient::new(way);
    let mut times = Vec::with_capacity(calls as usize);
    for _ in 0..calls {
        let begin = Instant::now();
        let answer = client.echo(Payload { data: data.clone() }).await?;
        times.push(begin.elapsed().as_secs_f64());
        if answer.get_ref().data.len() != data.len() {
            return Err(Status::data_loss("it answers with something else"));
        }
    }
    Ok(times)
}

fn measured(took: Duration, mut times: Vec<f64>) -> Measured {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    Measured {
        seconds: took.as_secs_f64(),
        calls: u32::try_from(times.len()).unwrap_or(u32::MAX),
        median: at(0.5),
        tail: at(0.99),
    }
}
