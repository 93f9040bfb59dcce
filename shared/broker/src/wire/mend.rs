//! Mends the payload of one frame in place; no length ever changes, so nothing else has to. What is malformed in another way
//! is left as it is: the broker, which has parsed it, never sends it.

/// Most tables and arrays inside one another. lapin reads them by recursion, on a stack that a frame has room to overflow.
pub(super) const NESTING: usize = 16;

/// AMQP 0-9-1's class `basic`, and its methods that carry text of strangers: routing keys and names of exchanges.
const BASIC: u16 = 60;
const RETURN: u16 = 50;
const DELIVER: u16 = 60;
const GET_OK: u16 = 71;

/// A content header: texts that are no UTF-8 get `?` in place of the wrong bytes, tables and arrays below level
/// [`NESTING`] become byte arrays, whose bytes nobody parses.
pub(super) fn header(payload: &mut [u8]) {
    properties(&mut Cursor { rest: payload });
}

/// A method that brings a message; all others are the broker's own words.
pub(super) fn method(payload: &mut [u8]) {
    message(&mut Cursor { rest: payload });
}

fn message(at: &mut Cursor<'_>) -> Option<()> {
    if at.u16()? != BASIC {
        return None;
    }
    match at.u16()? {
        RETURN => {
            at.skip(2)?;
            at.text()?;
        }
        DELIVER => {
            at.text()?;
            at.skip(9)?;
        }
        GET_OK => at.skip(9)?,
        _ => return None,
    }
    at.text()?;
    at.text()
}

/// In the order of their flags, from the highest bit on: content type and encoding, headers, delivery mode and priority,
/// correlation id, reply to, expiration, message id, timestamp, type, user, app and cluster id.
fn properties(at: &mut Cursor<'_>) -> Option<()> {
    at.skip(12)?;
    let flags = at.u16()?;
    for bit in (2..16).rev() {
        if flags & (1 << bit) == 0 {
            continue;
        }
        match bit {
            13 => table(&mut at.sized()?, 0)?,
            12 | 11 => at.skip(1)?,
            6 => at.skip(8)?,
            _ => at.text()?,
        }
    }
    Some(())
}

fn table(at: &mut Cursor<'_>, depth: usize) -> Option<()> {
    while !at.rest.is_empty() {
        at.text()?;
        value(at, depth)?;
    }
    Some(())
}

fn array(at: &mut Cursor<'_>, depth: usize) -> Option<()> {
    while !at.rest.is_empty() {
        value(at, depth)?;
    }
    Some(())
}

/// Sizes as RabbitMQ writes them: its `s` is a short integer.
fn value(at: &mut Cursor<'_>, depth: usize) -> Option<()> {
    let tag = at.take(1)?.first_mut()?;
    match *tag {
        b'V' => Some(()),
        b't' | b'b' | b'B' => at.skip(1),
        b's' | b'U' | b'u' => at.skip(2),
        b'I' | b'i' | b'f' => at.skip(4),
        b'D' => at.skip(5),
        b'L' | b'l' | b'd' | b'T' => at.skip(8),
        b'S' | b'x' => at.sized().map(|_bytes| ()),
        b'F' | b'A' if depth == NESTING => {
            *tag = b'x';
            at.sized().map(|_bytes| ())
        }
        b'F' => table(&mut at.sized()?, depth + 1),
        b'A' => array(&mut at.sized()?, depth + 1),
        _ => None,
    }
}

struct Cursor<'a> {
    rest: &'a mut [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a mut [u8]> {
        if count > self.rest.len() {
            return None;
        }
        let (taken, rest) = std::mem::take(&mut self.rest).split_at_mut(count);
        self.rest = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_bytes| ())
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// What stands behind its length of four bytes.
    fn sized(&mut self) -> Option<Cursor<'a>> {
        let size = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        let rest = self.take(usize::try_from(size).ok()?)?;
        Some(Cursor { rest })
    }

    /// A short string, mended.
    fn text(&mut self) -> Option<()> {
        let size = *self.take(1)?.first()?;
        let mut left = self.take(usize::from(size))?;
        while let Err(wrong) = std::str::from_utf8(left) {
            let from = wrong.valid_up_to();
            let to = wrong.error_len().map_or(left.len(), |long| from + long);
            left[from..to].fill(b'?');
            left = &mut left[to..];
        }
        Some(())
    }
}
