//! Killed at every line (docs/tests.md, "By crash window"): create, update and delete, with the answer heard and with the answer lost. The
//! process dies before its n-th step, for every n there is; then everything goes on by itself.

use crate::lab::{both, deleted, v};
use crate::partner::Fault;

both! {
    async fn kill_at_every_line(lab) {
        let cases = [
            ("create", "v1", "v1"),
            ("update", "v1", "v2"),
            ("delete", "v1", "v3"),
            ("re-create", "v3", "v4"),
        ];
        for (operation, before, event) in cases {
            for fault in [Fault::None, Fault::Lost, Fault::Error, Fault::Late(50)] {
                if lab.is_slow() && matches!(fault, Fault::Error | Fault::Late(_)) {
                    continue;
                }
                let mut lines = Vec::new();
                loop {
                    let mut world = lab.world(vec![v(1), v(2), deleted(3), v(4)]).await;
                    world.lock().partner.deletes = true;
                    if event != "v1" {
                        world.arrives("v1");
                        world.rest().await;
                    }
                    if before == "v3" {
                        world.arrives("v3");
                        world.rest().await;
                    }
                    let calls = world.calls().len();
                    world.lock().partner.script.push_back(fault);
                    world.arrives(event);
                    let line = world.run_steps(0, event, lines.len()).await;
                    world.crash(0);
                    world.rest().await;
                    let case = format!("{operation}, {fault:?}, killed at {line:?} after {lines:?}");
                    assert!(world.dead_letters().await.is_empty(), "{case}");
                    assert!(world.held().await.is_empty(), "{case}");
                    if event == "v3" {
                        let link = world.link(0).await;
                        assert_eq!((link.row.state.as_str(), link.open), ("deleted", false), "{case}");
                        assert_eq!(world.live(), [], "{case}");
                    } else {
                        world.shows(event).await;
                        assert_eq!(world.live().len(), 1, "{case}");
                    }
                    // Once, or once more where nothing was stored the first time or never left.
                    let calls = world.calls().len() - calls;
                    let most = if fault == Fault::Error { 2 } else { 1 };
                    assert!((1..=most).contains(&calls), "{calls} calls: {case}");
                    match line {
                        Some(line) => lines.push(line),
                        None => break,
                    }
                }
                for line in ["start", "claim", "reserve", "reserved"] {
                    assert!(lines.contains(&line), "{operation} was never killed at {line}: {lines:?}");
                }
                let at_the_answer = if fault == Fault::None {
                    ["answer", "complete", "ack"]
                } else {
                    ["no answer", "resolve", "give back"]
                };
                for line in at_the_answer {
                    assert!(lines.contains(&line), "{operation} was never killed at {line}: {lines:?}");
                }
            }
        }
    }
}
