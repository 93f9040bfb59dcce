use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use testkit::instance::Rabbit;

#[tokio::test]
async fn probe_confirmed() {
    for round in 0..8 {
        let server = Rabbit::start().await;
        let broker = server.broker().await;
        let q = broker.queue("kept");
        let mut args = FieldTable::default();
        args.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let channel = broker.channel().await.expect("c");
        let publisher = broker.publisher().await.expect("p");
        channel.queue_declare(q.as_str().into(), lapin::options::QueueDeclareOptions::durable(), args).await.expect("d");
        let route = publisher.raw("", &q, b"kept", BasicProperties::default().with_delivery_mode(2)).await.expect("confirmed");
        if round % 2 == 1 { server.flush().await; }
        // As fast as can be.
        let home = std::fs::read_dir("/proc").expect("proc");
        let port = broker.amqp_url().rsplit(':').next().expect("port").split('/').next().expect("p").to_owned();
        let mark = format!("dist_port={}", 0);
        let _ = (home, mark);
        let out = std::process::Command::new("bash").arg("-c").arg(format!("for p in $(pgrep beam.smp); do tr '\\0' '\\n' </proc/$p/environ 2>/dev/null | grep -q \"RABBITMQ_DIST_PORT=$(({port}+3))\" && kill -9 $p && echo killed $p; done")).output().expect("bash");
        eprintln!("PROBE {}", String::from_utf8_lossy(&out.stdout).trim());
        server.kill().await;
        server.start_again().await;
        let mut last = None;
        for _ in 0..60 {
            last = Some(broker.depth(&q).await);
            if matches!(last, Some(Ok(Some(1)))) { break; }
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
        eprintln!("PROBE round {round} flushed {} {route:?}: {last:?}", round % 2 == 1);
    }
}
