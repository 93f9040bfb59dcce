#!/usr/bin/env python3
"""Takes out one guard of the link engine at a time and shows that the random schedules notice.

    load-tests/guards.py                  every guard, a table at the end (about 15 minutes on two cores)
    load-tests/guards.py --only settle    those whose name contains the word
    load-tests/guards.py --list               their names; every text is looked for

Works on a copy of the checkout with a target folder of its own; changes nothing here. The SQL guards need
KURIR_DATABASE_URL (`make dev`, or `deploy/local/stack.sh run load-tests/guards.py`). Exit: 0 every guard is noticed,
1 one is not, 2 a guard's text is not found (the code has moved: mend this list).

A guard marked `belt` has no effect alone by design: another one stands behind it. It is
taken out all the same, and the table says what happened.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLAIM = "migrations/functions/claim.sql"
EFFECTS = "migrations/functions/effects.sql"
COMPLETE = "migrations/functions/complete.sql"
FINISH = "migrations/functions/finish.sql"
LEASES = "migrations/functions/leases.sql"
RECORD = "migrations/functions/record_dead_letters.sql"
HOLD = "migrations/functions/hold.sql"
HELD = "migrations/functions/held.sql"
ENVELOPES = "migrations/functions/envelopes.sql"
TABLES = "migrations/0001_baseline.sql"
NEXT = "shared/sync/src/next.rs"
DRIVE = "shared/sync/src/drive.rs"
CALL = "shared/sync/src/drive/call.rs"
NEXT_CALL = "shared/sync/src/next_call.rs"
PROOF = "shared/sync/src/proof.rs"
ORPHANED = "shared/sync/src/orphaned_create.rs"
ABSENCE = "shared/sync/src/absence.rs"
REFERENCES = "migrations/functions/references.sql"

# (name, file, text, replacement, belt?)
GUARDS = [
    # The engine in Rust: seen by the schedules on the model.
    ("an open effect is resolved before anything else", NEXT, "if let Some(effect) = view.open {", "if let Some(effect) = view.open.filter(|_| false) {", False),
    ("absent is believed only after the settle time", NEXT, "Some(settle_at) if view.claimed_at < settle_at =>", "Some(settle_at) if false && view.claimed_at < settle_at =>", False),
    ("an old copy is no proof of an update", NEXT, ".filter(|_| !made)", ".filter(|_| false)", False),
    ("reserve: what a call names is looked at again", EFFECTS, "x.refs is null or references_hold(x.refs) as holds", "true as holds", False),
    ("a record in conflict is not named", REFERENCES, "case when l.state in ('linked', 'alias') then l.target_id end", "l.target_id", False),
    ("gone: the first look counts only the lag after our last write", ABSENCE, "(Some(clear), _) if begun < clear => Some(Step::LookAgain(clear)),", "", False),
    ("gone: a second look", ABSENCE, "(_, None) => Some(Step::Missed(begun + lag)),", "(_, None) => None,", False),
    ("gone: the second look is the lag later", ABSENCE, "(_, Some(first)) if begun < first + lag => Some(Step::LookAgain(first + lag)),", "", False),
    ("gone: a record that is shown again was not gone", NEXT, "if view.shown_again() {\n        return Step::Seen;\n    }\n", "", False),
    ("gone: a part that a lagging look does not show is kept", NEXT_CALL, "if fresh {\n", "if true || fresh {\n", True),
    ("gone: the conflict is looked at again", CLAIM, "looks := l.state = 'conflict' and l.conflict_cause = 'gone' and i.key is null and i.claim_as = 'recheck';", "looks := false;", False),
    ("gone: written meanwhile, it was there", FINISH, "        or (p_end = 'missed' and l.written_at > p_begun)\n        or (p_end = 'conflict' and p_cause = 'gone' and l.missing_since is null) then", "        then", True),
    ("claim: a conflict about a key ends when the newest content wants none of another", CLAIM, "if l.state = 'conflict' and l.conflict_cause = 'key_taken' and i.key is not null and i.taken is null then", "if false then", False),
    ("look up before create", NEXT, "let Some(hits) = view.observations.hits(&content.keys) else {\n        return Step::Find(content.keys.clone());\n    };", "let hits: &[Record] = &[];", False),
    ("several hits are a conflict", NEXT, "several => several_records(several),\n        },\n    }\n}\n\nfn create", "several => Step::Adopt { record: Box::new((*several[0]).clone()), despite_open: false },\n        },\n    }\n}\n\nfn create", False),
    ("the former record is looked at before a re-creation", NEXT, ".filter(|_| !view.observations.former_gone)", ".filter(|_| false)", False),
    ("a covered event is done", NEXT, "intent if intent.k().is_some_and(|k| view.link.covers(k)) => Step::AlreadyDone,", "", True),
    ("a key of another record is a conflict", NEXT, "match view.keys_taken.first() {", "match view.keys_taken.first().filter(|_| false) {", False),
    ("other content proves nothing", PROOF, "Operation::Create => {\n            record.shows(&request.fields)", "Operation::Create => {\n            true || record.shows(&request.fields)", False),
    ("an append is known by an id that was not known", PROOF, "!link.parts.0.contains_key(&shown.id) && shown.part.signature() == signature", "shown.part.signature() == signature", True),
    ("only the last call raises applied_k", NEXT_CALL, "let last = part_calls == 1;", "let last = true;", False),
    ("main fields before parts are not the last call", NEXT_CALL, "return update(link, id, content, changed, riding, part_calls == 1);", "return update(link, id, content, changed, riding, true);", False),
    ("the record is read before the first part call", NEXT_CALL, "let noted = note(&link.parts, content, record, fresh);\n    if noted != link.parts {\n        return NextCall::Note(noted);\n    }\n", "let _ = note(&link.parts, content, record, fresh);\n", False),
    ("equal parts count once", NEXT_CALL, ".filter(|part| seen.insert(part.signature()))", ".filter(|part| { seen.insert(part.signature()); true })", True),
    ("a found part is never changed", NEXT_CALL, "known.owner == Owner::Ours\n                    && !used", "!used", False),
    ("a create that was given up is looked for before the next one", NEXT, "match orphaned_create(view, &content.keys, lag) {", "match Orphaned::Nothing {", False),
    ("a record with other content is somebody's", ORPHANED, "proof::shows(effect, view.link, record)", "true || proof::shows(effect, view.link, record)", False),
    ("a key of another link finds that link's record", ORPHANED, "|| view.keys_of_others.contains(&key.0)", "", False),
    ("a call that missed its window is not sent", CALL, ".send_window\n            .checked_sub(self.driver.clock.elapsed() - begun)", ".send_window\n            .checked_sub(Duration::ZERO)", False),
    ("a guard that failed is not the end of the event", DRIVE, "_ => self.wait(WaitCause::TokenLost),\n        }\n    }\n\n    fn wait", "_ => Flow::End(Handled::Done(Done(AckReason::AlreadyDone))),\n        }\n    }\n\n    fn wait", False),
    ("a lost answer is unknown, not failed", CALL, "self.driver.ledger.resolve(unknown).await?;", "let _ = unknown; self.fail(effect, outcome, false).await?;", False),
    ("a chain keeps its lease", CALL, "self.complete(effect, change, note, self.work.intent.k().is_none(), true)\n            .await\n", "self.complete(effect, change, note, self.work.intent.k().is_none(), true)\n            .await\n            .map(|_| Flow::End(Handled::Done(Done(AckReason::Applied))))\n", False),
    ("waiting is not failing", "shared/worker/src/decide.rs", "Err(Failure::Transient {\n            retry_after,\n            class,\n            message,\n        }) => retry(retry_after, class, message, context),", "Err(Failure::Transient { retry_after, class, message }) => { let _ = (retry_after, class); dead(DeadClass::Exhausted, message) }", False),
    ("a deletion wins a tie", "shared/event/src/order_key.rs", "bytes.push(if tombstone { b'1' } else { b'0' });", "bytes.push(if tombstone { b'0' } else { b'1' });", False),
    # The functions in SQL: compared step by step with the model.
    ("claim: a stale generation is acknowledged", CLAIM, "if i.dead_state is not null and (i.generation < i.dead_generation\n", "if false and (i.generation < i.dead_generation\n", False),
    ("claim: an event that is held already", CLAIM, "if i.is_held then", "if false then", False),
    ("claim: duplicate", CLAIM, "                if i.key <= l.applied_k then\n                    perform close_dead_letter", "                if false then\n                    perform close_dead_letter", False),
    ("claim: superseded", CLAIM, "            if i.key < l.desired_k then", "            if false then", False),
    ("claim: the superseded envelope is kept", CLAIM, "                perform keep_envelope(l.id, l.tenant, i.key, i.source, i.event_id, i.generation, p_bodies[i.idx + 1], i.properties, i.headers);\n", "", False),
    ("claim: a live lease", CLAIM, "if (l.state = 'conflict' and not looks) or live or (n = 2", "if (l.state = 'conflict' and not looks) or (n = 2", False),
    ("claim: the fourth is poison", CLAIM, "if n >= 3 and not (own and live) then", "if n >= 3000 and not (own and live) then", False),
    ("claim: poison falls back", CLAIM, "                perform fall_back(l.id, i.key, p_queue);\n                insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)\n                values (l.id, l.tenant, t, 'held', i.key, i.source, i.event_id, i.generation, '{\"reason\": \"poison\"}');", "", False),
    ("claim: the third runs alone", CLAIM, "or live or (n = 2 and not p_exclusive) or named ? 'lacks' then", "or live or named ? 'lacks' then", False),
    ("claim: a taken-over claim is counted", CLAIM, "            if (l.claim).token is not null then\n                insert into unsettled_claim", "            if false then\n                insert into unsettled_claim", False),
    ("claim: a key belongs to one link", CLAIM, "where c.link_id <> w.link order by key, w.link;", "where false order by key, w.link;", False),
    ("claim: while nothing is linked, calls that were given up come along", CLAIM, "if i.key is null or l.target_id is null then", "if i.key is null then", False),
    ("reserve: the token fences", EFFECTS, "where own.id = x.link and own.lease_token = x.token offset 0", "where own.id = x.link offset 0", False),
    ("reserve: one open effect per link", TABLES, "create unique index effect_one_open on effect (link_id) where state in ('sent', 'unknown');", "create unique index effect_one_open on effect (link_id, id) where state in ('sent', 'unknown');", False),
    ("complete: the effect must be open", COMPLETE, "and case f.state when 'sent' then true when 'unknown' then true else false end", "", False),
    ("complete: only an answer is late", COMPLETE, "if i.answered and e.state = 'abandoned'", "if e.state = 'abandoned'", True),
    ("complete: only the last raises applied_k", COMPLETE, "applied_k = case when seen.last then greatest(r.applied_k, seen.k) else r.applied_k end,", "applied_k = greatest(r.applied_k, seen.k),", False),
    ("complete: applied_k never goes back", COMPLETE, "case when seen.last then greatest(r.applied_k, seen.k) else r.applied_k end", "case when seen.last then coalesce(seen.k, r.applied_k) else r.applied_k end", True),
    ("complete: the lease goes only by its token", COMPLETE, "lease_token = case when seen.last and not seen.keep_lease and r.lease_token = seen.token then null else r.lease_token end,", "lease_token = case when seen.last and not seen.keep_lease then null else r.lease_token end,", False),
    ("complete: one record belongs to one link", COMPLETE, "and o.kind = r.kind and o.target_id = coalesce(x.target_id, r.target_id) and o.id <> r.id", "and false", True),
    ("complete: what is covered is closed", COMPLETE, "                        if i.k is not null then\n                            perform close_covered", "                        if false then\n                            perform close_covered", False),
    ("resolve: abandoned only after settle", EFFECTS, "state in ('sent', 'unknown') and p_begun >= settle_at", "state in ('sent', 'unknown')", True),
    ("resolve: failed only while open", EFFECTS, "when 'failed' then state in ('sent', 'unknown')", "when 'failed' then true", True),
    ("finish: the token is mine", FINISH, "if l.lease_token is distinct from p_token or (not", "if (not", False),
    ("finish: only a link without a target adopts", FINISH, "or (p_end = 'adopted' and l.target_id is not null)\n", "\n", True),
    ("finish: no open effect", FINISH, "or (not p_despite_open and open_effect(p_link) is not null)\n", "\n", True),
    ("finish: an adopted record belongs to one link", FINISH, "and kind = l.kind and target_id = p_target and id <> l.id and state <> 'alias';", "and kind = l.kind and false;", True),
    ("finish: a delete frees the keys", FINISH, "        if p_end = 'deleted' then\n            delete from natural_key_claim where link_id = p_link;", "        if false then\n            delete from natural_key_claim where link_id = p_link;", False),
    ("release: the lease by its token", LEASES, "lease_token = case when lease_token = r.token then null else lease_token end,\n            claim", "lease_token = null,\n            claim", True),
    ("release: the claim by its token", LEASES, "claim = case when (claim).token = r.token then null else claim end,", "claim = claim,", False),
    ("record: a later generation counts", RECORD, "if found and (d.generation > i.generation", "if found and (false", False),
    ("record: what is applied leaves history only", RECORD, "                if i.key <= l.applied_k then\n                    done := true;", "                if false then\n                    done := true;", False),
    ("record: the link falls back", RECORD, "                perform fall_back(x, i.key, i.queue);\n", "", False),
    ("record: a copy that comes again changes nothing", RECORD, "if not fresh then", "if false then", True),
    ("hold: a newer held event keeps the older one", HOLD, "                perform keep_envelope(l.id, l.tenant, h.k, h.source, h.event_id, h.generation, h.body, h.properties, h.headers);\n", "                null;\n", False),
    ("hold: a conflict that was settled is no cause", HOLD, "if i.cause = 'conflict' and l.state <> 'conflict' then", "if false then", False),
    ("release: a create without a key is given up by hand", HELD, "    if p_actor is not null then\n        with abandoned_effects", "    if false then\n        with abandoned_effects", False),
    ("release: it is given up only after its settle time", HELD, "and e.link_id = l.id and e.state in ('sent', 'unknown') and e.settle_at <= t", "and e.link_id = l.id and e.state in ('sent', 'unknown')", False),
    ("fall back: only if this event was the desired one", ENVELOPES, "    if l.desired_k > p_k then\n        return null;", "    if false then\n        return null;", False),
]


def mutate(text, guard):
    name, _file, old, new, _belt = guard
    if text.count(old) == 0:
        # rustfmt may have broken the line elsewhere: spaces and line ends count alike, trailing commas not at all
        pattern = r"\s*".join(re.escape(word) for word in re.findall(r"\w+|[^\w\s]", old))
        found = re.findall(pattern, text)
        if len(found) != 1:
            print(f"guards: '{name}': its text is found {len(found)} times", file=sys.stderr)
            sys.exit(2)
        old = found[0]
    elif text.count(old) > 1:
        print(f"guards: '{name}': its text is found {text.count(old)} times", file=sys.stderr)
        sys.exit(2)
    return text.replace(old, new)


def run(copy, target, test, seeds):
    env = dict(os.environ, CARGO_TARGET_DIR=str(target), SEEDS=str(seeds), RUST_BACKTRACE="0", RUSTFLAGS="-Awarnings")
    # The random schedules of one kind, and all schedules written by hand.
    env.update(SEEDS="0", SQL_SEEDS=str(seeds)) if test.endswith("postgres") else env.update(SQL_SEEDS="0")
    command = ["cargo", "test", "-q", "-p", "sync", "--test", "it"]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        return "noticed", "it never came to rest", time.monotonic() - begun
    took = time.monotonic() - begun
    output = done.stdout + done.stderr
    if "could not compile" in output:
        print(output[-3000:], file=sys.stderr)
        sys.exit(2)
    if done.returncode == 0:
        return "NOT noticed", "", took
    why = re.search(r"(I\d+(?:/I\d+)?: .*|Postgres .* differ at \w+|no rest after.*|.*refused \w+:.*|^test v_\S+ \.\.\. FAILED|^    v_\S+)", output, re.M)
    return "noticed", (why.group(1) if why else "failed")[:100], took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seeds", type=int, default=30_000, help="schedules per Rust guard")
    parser.add_argument("--sql-seeds", type=int, default=200, help="schedules per SQL guard")
    args = parser.parse_args()
    chosen = [guard for guard in GUARDS if args.only in guard[0]]
    if args.list:
        for guard in chosen:
            mutate((ROOT / guard[1]).read_text(), guard)
            print(guard[0])
        return 0
    work = pathlib.Path(tempfile.mkdtemp(prefix="kurir-guards-"))
    copy, target = work / "copy", work / "target"
    try:
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("target", ".git", ".local", "node_modules"))
        rows, green = [], False
        for guard in chosen:
            name, file, _old, _new, belt = guard
            path = copy / file
            original = path.read_text()
            path.write_text(mutate(original, guard))
            sql = file.endswith(".sql")
            test = "schedules::random_schedules_on_postgres" if sql else "schedules::random_schedules"
            verdict, why, took = run(copy, target, test, args.sql_seeds if sql else args.seeds)
            path.write_text(original)
            rows.append((name, verdict, why, belt))
            green |= verdict != "noticed" and not belt
            print(f"{verdict:<11} {took:5.0f} s  {name}: {why}", flush=True)
        print("\n| guard taken out | schedules | first sign |\n|---|---|---|")
        for name, verdict, why, belt in rows:
            print(f"| {name}{' (belt)' if belt else ''} | {verdict} | {why} |")
        return 1 if green else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
