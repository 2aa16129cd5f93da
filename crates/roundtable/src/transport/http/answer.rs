//! The body of an answer, with what it holds until it is handed over.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::pace::Pace;
use crate::shares::Share;
use crate::transport::shard::Shard;

/// An answer as HTTP hands it over.
pub type Answer = Response<Carried>;

/// An answer that is under way: the shard's end waits for it.
struct UnderWay(Rc<Shard>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.answered_one();
    }
}

/// A body and what goes with it.
pub struct Carried {
    body: Body,
    turn: Option<Share>,
    pace: Arc<Pace>,
    _under_way: Option<UnderWay>,
}

/// What an answer holds from the beginning of its request on.
pub struct Exchange {
    pace: Arc<Pace>,
    under_way: UnderWay,
}

impl Exchange {
    /// A request has come to a shard.
    pub fn begin(shard: &Rc<Shard>, pace: Arc<Pace>) -> Self {
        shard.asked_one();
        Self { pace, under_way: UnderWay(Rc::clone(shard)) }
    }

    /// The pace of the connection.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Its answer, with the turn at which it was made, if that is to be kept until it was read. One without an end that can
    /// be seen keeps nobody waiting.
    pub fn end(self, response: Response<Body>, turn: Option<Share>) -> Answer {
        let Self { pace, under_way } = self;
        let endless = response.body().size_hint().exact().is_none();
        if endless {
            pace.open_ended();
        }
        let (turn, under_way) = if endless { (None, None) } else { (turn, Some(under_way)) };
        response.map(|body| Carried { body, turn, pace, _under_way: under_way })
    }
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let turn = self.turn.take();
        self.pace.answered(turn);
    }
}
