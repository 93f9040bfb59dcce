//! Against lapin's own encoder and parser.

use std::collections::VecDeque;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic};
use futures_util::AsyncReadExt as _;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use proptest::prelude::*;

use super::*;
use crate::wire::mend::NESTING;

/// Hands out its pieces one read at a time, and then the end.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(mut piece) = self.0.pop_front() else {
            return Poll::Ready(Ok(0));
        };
        let count = piece.len().min(into.len());
        into[..count].copy_from_slice(&piece[..count]);
        let rest = piece.split_off(count);
        if !rest.is_empty() {
            self.0.push_front(rest);
        }
        Poll::Ready(Ok(count))
    }
}

async fn passed(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut pieces, mut rest, mut turn) = (VecDeque::new(), bytes, 0);
    while !rest.is_empty() {
        let size = sizes
            .get(turn % sizes.len().max(1))
            .copied()
            .unwrap_or(4096)
            .clamp(1, rest.len());
        pieces.push_back(rest[..size].to_vec());
        rest = &rest[size..];
        turn += 1;
    }
    let mut read = Vec::new();
    Mended::new(Pieces(pieces))
        .read_to_end(&mut read)
        .await
        .expect("pieces never fail");
    read
}

fn encoded(frames: &[AMQPFrame]) -> Vec<u8> {
    frames.iter().fold(Vec::new(), |written, frame| {
        let to: WriteContext<Vec<u8>> = written.into();
        gen_frame(frame)(to).expect("a vector takes all").write
    })
}

fn parsed(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("lapin reads what was mended");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn message(routing_key: &str, properties: BasicProperties, body: &[u8]) -> Vec<AMQPFrame> {
    let deliver = basic::Deliver {
        consumer_tag: "worker".into(),
        delivery_tag: 7,
        redelivered: false,
        exchange: "kurir.events".into(),
        routing_key: routing_key.into(),
    };
    let header = AMQPContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties,
    };
    vec![
        AMQPFrame::Method(3, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))),
        AMQPFrame::Header(3, header),
        AMQPFrame::Body(3, body.to_vec()),
    ]
}

fn value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        Just(AMQPValue::Float(1.5)),
        Just(AMQPValue::Double(-2.5)),
        Just(AMQPValue::Void),
        "\\PC{0,20}".prop_map(|text| AMQPValue::LongString(text.into())),
        prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| {
            AMQPValue::DecimalValue(lapin::types::DecimalValue { scale, value })
        }),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|values| {
                let mut array = FieldArray::default();
                values.into_iter().for_each(|value| array.push(value));
                AMQPValue::FieldArray(array)
            }),
            table_of(inner).prop_map(AMQPValue::FieldTable),
        ]
    })
}

fn table_of(values: impl Strategy<Value = AMQPValue>) -> impl Strategy<Value = FieldTable> {
    prop::collection::vec(("\\PC{0,12}", values), 0..5).prop_map(|entries| {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert(name.as_str().into(), value);
        }
        table
    })
}

/// Each property present or not, so that the order of the flags is held too.
fn properties() -> impl Strategy<Value = BasicProperties> {
    let text = || proptest::option::of("\\PC{0,20}");
    (
        (text(), text(), text(), text(), text(), text(), text()),
        proptest::option::of(any::<u64>()),
        proptest::option::of(1..3_u8),
        proptest::option::of(table_of(value())),
    )
        .prop_map(|(texts, timestamp, mode, headers)| {
            let (kind, id, flow, expiration, type_, user, app) = texts;
            let mut made = BasicProperties::default();
            if let Some(text) = kind {
                made = made.with_content_type(text.as_str().into());
            }
            if let Some(text) = id {
                made = made.with_message_id(text.as_str().into());
            }
            if let Some(text) = flow {
                made = made.with_correlation_id(text.as_str().into());
            }
            if let Some(text) = expiration {
                made = made.with_expiration(text.as_str().into());
            }
            if let Some(text) = type_ {
                made = made.with_type(text.as_str().into());
            }
            if let Some(text) = user {
                made = made.with_user_id(text.as_str().into());
            }
            if let Some(text) = app {
                made = made.with_app_id(text.as_str().into());
            }
            if let Some(at) = timestamp {
                made = made.with_timestamp(at);
            }
            if let Some(mode) = mode {
                made = made.with_delivery_mode(mode).with_priority(mode);
            }
            if let Some(headers) = headers {
                made = made.with_headers(headers);
            }
            made
        })
}

proptest! {
    #[test]
    fn good_messages_arrive_byte_for_byte_however_they_are_cut(
        key in "\\PC{0,40}", properties in properties(), body in prop::collection::vec(any::<u8>(), 0..300),
        sizes in prop::collection::vec(1..200_usize, 1..8),
    ) {
        let bytes = encoded(&message(&key, properties, &body));
        let twice = [bytes.clone(), bytes].concat();
        let read = futures_util::FutureExt::now_or_never(passed(&twice, &sizes)).expect("never waits");
        prop_assert_eq!(read, twice);
    }

    /// Any byte of a content header but those that say how long something is.
    #[test]
    fn wrong_bytes_in_texts_are_read_by_lapin_and_change_nothing_else(
        mut id in "[a-z]{1,40}", at in any::<prop::sample::Index>(), wrong in 0x80..=0xff_u8, body in "[a-z]{0,20}",
    ) {
        let mut bytes = encoded(&message(&id, BasicProperties::default().with_message_id(id.as_str().into()), body.as_bytes()));
        let at = at.index(id.len());
        let found: Vec<usize> = (0..bytes.len() - id.len()).filter(|from| bytes[*from..].starts_with(id.as_bytes()) && usize::from(bytes[from - 1]) == id.len()).collect();
        prop_assume!(found.len() == 2);
        for from in found {
            bytes[from + at] = wrong;
        }
        let read = futures_util::FutureExt::now_or_never(passed(&bytes, &[])).expect("never waits");
        id.replace_range(at..=at, "?");
        let expected = message(&id, BasicProperties::default().with_message_id(id.as_str().into()), body.as_bytes());
        prop_assert_eq!(parsed(&read), expected);
    }

    #[test]
    fn never_panics_whatever_the_bytes_are(bytes in prop::collection::vec(any::<u8>(), 0..400), sizes in prop::collection::vec(1..50_usize, 1..5)) {
        let read = futures_util::FutureExt::now_or_never(passed(&bytes, &sizes)).expect("never waits");
        prop_assert_eq!(read.len(), bytes.len());
    }

    /// A content header whose size is true and whose inside is not.
    #[test]
    fn no_length_ever_changes(kind in 1..3_u8, payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let size = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let frame = [&[kind, 0, 1][..], &size, &payload, &[0xce]].concat();
        let read = futures_util::FutureExt::now_or_never(passed(&frame, &[])).expect("never waits");
        prop_assert_eq!(read.len(), frame.len());
        prop_assert_eq!(&read[..7], &frame[..7]);
    }
}

/// By hand: lapin's encoder needs a stack for it, too.
fn nested(levels: usize, kind: u8) -> Vec<u8> {
    let around = |tag: u8, inner: &[u8]| {
        let size = u32::try_from(inner.len()).expect("short").to_be_bytes();
        [&[tag][..], &size, inner].concat()
    };
    let mut value = b"V".to_vec();
    for _ in 0..levels {
        let name: &[u8] = if kind == b'F' { b"\x02in" } else { b"" };
        value = around(kind, &[name, &value].concat());
    }
    let table = [b"\x06nested", value.as_slice(), b"\x05afterI\0\0\0\x03"].concat();
    // Class, weight, body size and the flags of headers and message id.
    let payload = [
        b"\0\x3c\0\0\0\0\0\0\0\0\0\x02\x20\x80",
        &around(b'F', &table)[1..],
        b"\x03id7",
    ]
    .concat();
    [&[HEADER, 0, 3][..], &around(0, &payload)[1..], &[0xce]].concat()
}

fn depth(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::FieldTable(table) => {
            1 + table.inner().values().map(depth).max().unwrap_or_default()
        }
        AMQPValue::FieldArray(array) => {
            1 + array.as_slice().iter().map(depth).max().unwrap_or_default()
        }
        _ => 0,
    }
}

#[tokio::test]
async fn deep_tables_and_arrays_become_bytes_and_their_neighbours_stay() {
    for kind in [b'F', b'A'] {
        for (levels, kept) in [(NESTING, NESTING), (NESTING + 1, NESTING), (3000, NESTING)] {
            let frames = parsed(&passed(&nested(levels, kind), &[100]).await);
            let [AMQPFrame::Header(3, header)] = frames.as_slice() else {
                panic!("a content header: {frames:?}");
            };
            let headers = header.properties.headers().as_ref().expect("headers");
            let found = headers.inner();
            assert_eq!(depth(&found["nested"]), kept, "{levels} levels");
            assert_eq!(found["after"], AMQPValue::LongInt(3));
            let id = header.properties.message_id().as_ref().expect("an id");
            assert_eq!(id.as_str(), "id7");
        }
    }
}
