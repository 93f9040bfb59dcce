use super::*;
use crate::error::Mismatch;

fn written(block: &Block) -> String {
    let objects = block.objects.iter().map(|object| {
        let arguments: Vec<_> = object
            .arguments
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("{:?} {} {}", object.kind, object.name, arguments.join(" "))
            .trim_end()
            .to_owned()
    });
    let bindings = block
        .bindings
        .iter()
        .map(|bound| format!("bind {} -> {} '{}'", bound.exchange, bound.queue, bound.key));
    objects.chain(bindings).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_whole_topology() {
    let topology = Topology::new("kurir");
    let consumes = [
        EventType::CrmContactCreated,
        EventType::CrmContactUpdated,
        EventType::CrmContactDeleted,
    ];
    let blocks: Vec<Block> = topology.blocks(&[("metakocka-sync", &consumes)]).collect();
    insta::assert_snapshot!(blocks.iter().map(written).collect::<Vec<_>>().join("\n\n"));
}

/// Either argument alone loses messages silently (measured).
#[test]
fn every_queue_that_dead_letters_does_it_at_least_once() {
    let topology = Topology::new("t");
    let objects = topology
        .blocks(&[("w", &[])])
        .flat_map(|block| block.objects);
    for object in objects.filter(|object| object.kind == Kind::Queue) {
        let value = |name: &str| {
            object
                .arguments
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.clone())
        };
        if value("x-dead-letter-exchange").is_some() {
            assert_eq!(
                value("x-dead-letter-strategy"),
                Some(text("at-least-once")),
                "{object}"
            );
            assert_eq!(
                value("x-overflow"),
                Some(text("reject-publish")),
                "{object}"
            );
        }
        assert!(
            value("x-delivery-limit").is_some_and(|limit| matches!(limit, Argument::Number(1..))),
            "{object}"
        );
        assert_eq!(value("x-max-length"), None, "{object}");
    }
}

#[test]
fn a_mismatch_is_read_in_every_form_the_broker_uses() {
    let retry_tier = Topology::new("kurir")
        .worker_block("w", &[])
        .objects
        .remove(2);
    let read = |said: &str| {
        let Mismatch {
            argument,
            here,
            there,
            ..
        } = retry_tier.mismatch(said);
        format!("{argument}: here {here}, there {there}")
    };
    let forms = [
        "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'kurir.w.retry.1s' in vhost '/': received '1000' but current is '2000'",
        "PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue 'kurir.w.retry.1s' in vhost '/': received the value 'reject-publish' of type 'longstr' but current is none",
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'kurir.w.retry.1s' in vhost '/': received 'true' but current is 'false'",
    ];
    insta::assert_snapshot!(forms.map(read).join("\n"), @r"
    x-message-ttl: here 1000, there 2000
    x-overflow: here 'reject-publish', there none
    durable: here what is declared in topology.rs, there false
    ");
}

#[test]
fn policies_and_lost_bindings_are_found() {
    let topology = Topology::new("kurir");
    let queues = serde_json::json!([
        {"name": "kurir.w", "policy": "ttl-all", "effective_policy_definition": {"message-ttl": 60000}},
        {"name": "kurir.w.dead", "arguments": {}},
    ]);
    let bindings = serde_json::json!([
        {"source": "kurir.unrouted", "destination": "kurir.unrouted.in", "routing_key": ""},
        {"source": "kurir.unrouted.kept", "destination": "kurir.unrouted", "routing_key": ""},
    ]);
    let findings = topology.check_management(
        &queues,
        &bindings,
        &[("w", &[EventType::CrmContactCreated])],
    );
    let shown: Vec<_> = findings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    queue kurir.w is changed by the policy 'ttl-all' ({"message-ttl":60000}): the smaller value counts; remove it with: rabbitmqctl clear_policy 'ttl-all'
    queue kurir.w is not bound to kurir.events with 'crm.contact.created.v1.#'; its worker binds it at its start
    "#);
}
