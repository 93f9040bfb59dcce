//! A byte stream from the broker with its frames mended on the way. Bodies pass through untouched and uncopied; a method or a
//! content header that has not arrived whole is held back until it has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};

use super::mend;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// Type, channel and size before a frame's payload, and the octet that ends it.
const BEFORE: usize = 7;
const AFTER: usize = 1;
/// What is longer is passed on as it is: no frame is longer than agreed with the broker (128 KiB, unless the address says
/// otherwise), and nothing is held back without a bound.
const LONGEST: usize = 1024 * 1024;

/// See the module.
pub(crate) struct Mended<S> {
    stream: S,
    frames: Frames,
    /// Mended, and waiting for a reader: `out[given..]`.
    out: Vec<u8>,
    given: usize,
}

impl<S> Mended<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            out: Vec::new(),
            given: 0,
        }
    }

    fn give(&mut self, into: &mut [u8]) -> usize {
        let waiting = &self.out[self.given..];
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        self.given += count;
        if self.given == self.out.len() {
            self.out.clear();
            self.given = 0;
        }
        count
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            if !this.out.is_empty() || into.is_empty() {
                return Poll::Ready(Ok(this.give(into)));
            }
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, into))?;
            if read == 0 {
                // The end, perhaps inside a frame: whoever reads shall see what came of it.
                this.out = std::mem::take(&mut this.frames.held);
                return Poll::Ready(Ok(this.give(into)));
            }
            match this.frames.pass(&mut into[..read]) {
                Passed::Direct(0) => {}
                Passed::Direct(count) => return Poll::Ready(Ok(count)),
                Passed::Held(bytes) => this.out = bytes,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

/// Where in the stream of frames we are.
#[derive(Default)]
struct Frames {
    /// Of a frame that nobody has to look at: bytes still to come.
    left: usize,
    /// The beginning of a frame that has to be whole.
    held: Vec<u8>,
}

enum Passed {
    /// So many bytes of the chunk itself may be handed on.
    Direct(usize),
    Held(Vec<u8>),
}

impl Frames {
    fn pass(&mut self, chunk: &mut [u8]) -> Passed {
        if self.held.is_empty() {
            let done = self.mend(chunk);
            self.held.extend_from_slice(&chunk[done..]);
            return Passed::Direct(done);
        }
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(chunk);
        let done = self.mend(&mut whole);
        self.held = whole.split_off(done);
        Passed::Held(whole)
    }

    /// Mends what is whole; how many bytes that are, with those of frames that need no look.
    fn mend(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let skipped = self.left.min(bytes.len() - at);
            self.left -= skipped;
            at += skipped;
            let rest = &mut bytes[at..];
            let Some([kind, _, _, size @ ..]) = rest.first_chunk::<BEFORE>() else {
                return at;
            };
            let (kind, size) = (*kind, u32::from_be_bytes(*size));
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let whole = size.saturating_add(BEFORE + AFTER);
            if !matches!(kind, METHOD | HEADER) || whole > LONGEST {
                self.left = whole;
                continue;
            }
            if rest.len() < whole {
                return at;
            }
            let payload = &mut rest[BEFORE..whole - AFTER];
            match kind {
                HEADER => mend::header(payload),
                _ => mend::method(payload),
            }
            at += whole;
        }
    }
}

#[cfg(test)]
mod tests;
