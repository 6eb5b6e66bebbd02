//! Bodies that are answered before they are read to their end: too large, not allowed, no such route.
//!
//! A connection that is closed while the client still sends is reset, and a reset can overtake the answer: the client would
//! see a broken connection and never learn why. What is left of a body is therefore read and thrown away, within bounds.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How much of an unread body is still taken, in bytes; a client that sends more sees its connection closed.
const MAX_DRAINED_BYTES: usize = 64 * 1024 * 1024;

/// How long an unread body is still taken.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A body whose rest is drained when it is dropped.
///
/// # Examples
/// ```
/// use axum::{Router, body::Body, extract::Request, middleware::map_request};
/// use rowcall_stack::drain::Drained;
///
/// let routes: Router = Router::new()
///     .layer(map_request(async |request: Request| request.map(Drained::body)));
/// ```
#[derive(Debug)]
pub struct Drained<B>(Option<B>)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static;

impl<B> Drained<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    /// Wraps a body.
    pub fn body(body: B) -> Body {
        Body::new(Self(Some(body)))
    }
}

impl<B> HttpBody for Drained<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl<B> Drop for Drained<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        let Some(rest) = self.0.take().filter(|rest| !rest.is_end_stream()) else {
            return;
        };
        // Without a runtime the connection is gone too.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(DRAIN_TIMEOUT, drain(rest)));
        }
    }
}

/// Reads until the end, an error or the bound; answers how much it was.
async fn drain(mut body: impl HttpBody<Data = Bytes> + Unpin) -> usize {
    let mut drained = 0;
    while drained < MAX_DRAINED_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
    drained
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::Request;
    use axum::middleware::map_request;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A client that reads nothing before it has sent everything, as the simplest ones do.
    async fn send_then_read(body: usize) -> String {
        let routes = Router::new()
            .route("/", post(async || "not read"))
            .layer(map_request(async |request: Request| {
                request.map(Drained::body)
            }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = tokio::spawn(async move { axum::serve(listener, routes).await });
        let mut client = TcpStream::connect(address).await.expect("connected");
        let head = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {body}\r\n\r\n"
        );
        client
            .write_all(head.as_bytes())
            .await
            .expect("the head is taken");
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..body / piece.len() {
            client.write_all(&piece).await.expect("the body is taken");
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        server.abort();
        answer
    }

    #[tokio::test]
    async fn a_large_body_that_nobody_reads_still_gets_its_answer() {
        let answer = send_then_read(32 * 1024 * 1024).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("not read"), "{answer}");
    }

    #[tokio::test]
    async fn draining_is_bounded() {
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from(vec![0; 1024 * 1024]))
        });
        assert_eq!(drain(Body::from_stream(endless)).await, MAX_DRAINED_BYTES);
    }
}
