//! Bytes that lapin can't write and can't read, on a real broker: a stranger's frames are changed on the way to it.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use testkit::{structured_properties, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::scene::{SOON, Scene, created, id};

/// In texts; becomes bytes that are no UTF-8.
const WRONG: &str = "QQQQ";
/// A header of this name is a table, whatever it was written as.
const DEEP: &str = "deep";

/// Between one client and the broker, frame by frame.
async fn between(server: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from, mut back) = client.into_split();
        let (mut answers, mut to) = TcpStream::connect(server).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
        let mut greeting = [0; 8];
        from.read_exact(&mut greeting).await.unwrap();
        to.write_all(&greeting).await.unwrap();
        let mut frame = vec![0; 7];
        while from.read_exact(&mut frame[..7]).await.is_ok() {
            let size = u32::from_be_bytes(frame[3..7].try_into().unwrap());
            frame.resize(usize::try_from(size).unwrap() + 8, 0);
            from.read_exact(&mut frame[7..]).await.unwrap();
            replace(&mut frame, WRONG.as_bytes(), b"\xff\xfe\xc3\x28");
            replace(&mut frame, b"\x04deepS", b"\x04deepF");
            to.write_all(&frame).await.unwrap();
        }
    });
    port
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    for at in 0..bytes.len().saturating_sub(old.len()) {
        if bytes[at..].starts_with(old) {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
    }
}

/// The bytes of a table that holds a table that holds a table …
fn tables(levels: usize) -> Vec<u8> {
    let mut inner = b"\x01kV".to_vec();
    for _ in 0..levels {
        let size = u32::try_from(inner.len()).unwrap().to_be_bytes();
        inner = [b"\x01kF", size.as_slice(), inner.as_slice()].concat();
    }
    inner
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_utf8_and_deep_tables_end_no_connection() {
    let scene = Scene::new().await;
    let consuming = scene.consume().await;
    let epoch = scene.broker.status().borrow().clone();
    let mut address = url::Url::parse(scene.kit.amqp_url()).unwrap();
    let server = format!(
        "{}:{}",
        address.host_str().unwrap(),
        address.port().unwrap()
    );
    address
        .set_port(Some(between(server).await))
        .expect("a port");
    let stranger = lapin::Connection::connect(address.as_str(), Default::default())
        .await
        .unwrap();
    let channel = stranger.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let events = created(4);
    let [wrong_id, wrong_key, deep, good]: &[Value; 4] = events.as_slice().try_into().unwrap();
    let key = format!("crm.contact.created.v1.{}", crate::ports::TENANT);
    let mut headers = FieldTable::default();
    let table = tables(3_000);
    headers.insert(DEEP.into(), AMQPValue::LongString(table.into()));
    let plain = structured_properties;
    for (event, key, properties) in [
        (
            wrong_id,
            key.clone(),
            plain(wrong_id).with_message_id(WRONG.into()),
        ),
        (
            wrong_key,
            format!("crm.contact.created.v1.{WRONG}"),
            plain(wrong_key),
        ),
        (deep, key.clone(), plain(deep).with_headers(headers)),
        (good, key, plain(good)),
    ] {
        let confirmed = channel
            .basic_publish(
                scene.broker.topology().events().as_str().into(),
                key.as_str().into(),
                BasicPublishOptions::default(),
                event.to_string().as_bytes(),
                properties,
            )
            .await
            .unwrap();
        assert!(confirmed.await.unwrap().is_ack());
    }
    wait_until(
        "the good and the deep one handled",
        SOON,
        async || {
            let handled = &scene.ports.seen().handled;
            [deep, good].map(|event| handled.iter().any(|(done, _)| done == id(event)))
        },
        |both| *both == [true, true],
    )
    .await;
    let dead = scene.queue(".dead");
    scene.holds(&dead, 2).await;
    // As the ledger reads them: the same parser again.
    let dead_letters = crate::scene::peek(&scene.broker, &dead, 10).await.unwrap();
    let mut classes: Vec<String> = dead_letters
        .iter()
        .filter_map(|dead_letter| Some(dead_letter.note.as_ref()?.class.to_string()))
        .collect();
    classes.sort_unstable();
    assert_eq!(classes, ["id_mismatch", "tenant_mismatch"]);
    assert_eq!(
        *scene.broker.status().borrow(),
        epoch,
        "one connection all along"
    );
    consuming.stop().await.unwrap();
}
