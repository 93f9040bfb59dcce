-- All tables as of the first release; what lies over them is in functions/ (docs/decisions/0016-one-baseline.md).
-- A migration that has landed is never edited: the next change is the next file.

-- Trusted since PostgreSQL 13: whoever may create tables in this database may create it.
create extension if not exists pg_trgm;

-- Which text of each function in functions/ this database has, and the release that brought it.
create table applied_function (
    name text primary key,
    -- Of its whole text; of the part before its body. Where the latter differs it is dropped before it is made.
    hash text not null,
    signature text not null,
    release text not null,
    at timestamptz not null default now()
);

-- Types: what the functions over batches are given, one object of a JSON array each; what an object lacks is null. Keys (`k`)
-- travel as hexadecimal text.

-- A link by its id, or by what it ties: one record of a source to one connection. Part of the items below.
create type link_name as (
    link_id bigint,
    worker text,
    tenant text,
    kind text,
    source_system text,
    source_account text,
    source_id text,
    target_system text,
    connection_id uuid,
    k text
);

-- Item of claim_links.
create type claim_item as (
    idx int,
    link_id bigint,
    tenant text,
    kind text,
    source_system text,
    source_account text,
    source_id text,
    target_system text,
    connection_id uuid,
    k text,
    source text,
    event_id text,
    generation int,
    token uuid,
    dead_id uuid,
    keys jsonb,
    type text,
    subject text,
    properties jsonb,
    headers jsonb,
    -- A request counts its claims under this name.
    claim_as text,
    -- Digest of the content that it wants.
    content text
);

-- Who has a link: an event, or a request under the name that it counts under.
create type running_claim as (
    event text,
    source text,
    generation int,
    k bytea,
    token uuid
);

-- What claim_links has granted and writes at its end.
create type claim_grant as (
    idx int,
    link bigint,
    claim running_claim,
    content text,
    open jsonb,
    more jsonb
);

-- Natural keys that a granted link does not own yet.
create type wanted_keys as (
    idx int,
    link bigint,
    keys jsonb
);

-- A lease that is given back or prolonged. Without its link the whole table is searched.
create type lease_item as (
    token uuid,
    link bigint,
    error text
);

-- Item of reserve_effects.
create type reserve_item as (
    idx int,
    effect uuid,
    link bigint,
    token uuid,
    source text,
    event_id text,
    generation int,
    k text,
    operation text,
    last boolean,
    request jsonb,
    target_id text,
    settle_ms bigint
);

-- Item of complete_effects.
create type complete_item as (
    idx int,
    effect uuid,
    link bigint,
    token uuid,
    target_id text,
    base jsonb,
    parts jsonb,
    keys jsonb,
    what text,
    note jsonb,
    keep_lease boolean,
    answered boolean
);

-- Item of bury.
create type dead_item as (
    idx int,
    dead_id uuid,
    worker text,
    queue text,
    tenant text,
    connection_id uuid,
    link_id bigint,
    kind text,
    source_system text,
    source_account text,
    source_id text,
    target_system text,
    k text,
    source text,
    event_id text,
    type text,
    subject text,
    generation int,
    attempt int,
    class text,
    fingerprint text,
    message text,
    trace_id text,
    at timestamptz,
    properties jsonb,
    headers jsonb
);

-- Item of hold_events.
create type hold_item as (
    idx int,
    worker text,
    queue text,
    tenant text,
    target_system text,
    connection_id uuid,
    epoch bigint,
    cause text,
    person boolean,
    detail text,
    kind text,
    source_system text,
    source_account text,
    source_id text,
    k text,
    link_id bigint,
    source text,
    event_id text,
    generation int,
    type text,
    subject text,
    properties jsonb,
    headers jsonb,
    release_at timestamptz,
    lane smallint,
    waits_kind text,
    waits_system text,
    waits_account text,
    waits_id text,
    waits_key text
);

-- A limit of a budget: one permit each gap_us, and as many as burst at once, in windows of per_ms.
create type bucket as (
    per_ms bigint,
    gap_us bigint,
    burst int
);

-- What a process asks of a connection's budget (lease_budgets).
create type budget_ask as (
    connection uuid,
    tenant text,
    spec jsonb,
    -- Array of bucket.
    buckets jsonb,
    want int,
    back int,
    slots_want int,
    slots_used int,
    searches_want int,
    searches_used int,
    begun int,
    fine boolean,
    cost real,
    -- {ms, named, reason}
    cool jsonb,
    -- Array of {operation, reason, ms}; of operations; of operations.
    opened jsonb,
    closed jsonb,
    canaries jsonb,
    in_flight int,
    search_lane int
);

-- Tenants, their tokens and connections.

create table tenant (
    id text primary key check (id ~ '^[A-Za-z0-9_-]{1,64}$'),
    name text not null default '',
    created_at timestamptz not null default now()
);

-- A bearer token of the gateway: one tenant, and one source where it names one. Only its hash is kept.
create table api_token (
    id uuid primary key,
    tenant text not null references tenant,
    name text not null,
    source text,
    hash bytea not null unique,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);
create index api_token_tenant on api_token (tenant);

-- A tenant's account at a partner. `sealed` is AES-256-GCM over the credentials, with `key_id` from the key ring.
-- `epoch` grows with every change of state or credentials: who decides on an old view is refused.
create table connection (
    id uuid primary key,
    tenant text not null references tenant,
    system text not null,
    account text not null default 'default',
    enabled boolean not null default true,
    state text not null default 'ok' check (state in ('ok', 'suspended')),
    state_reason text,
    epoch bigint not null default 1,
    settings jsonb not null default '{}',
    sealed bytea not null,
    key_id text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- A tenant may have several accounts at one partner; an event then goes to each of them as a copy of its own.
    constraint connection_one_per_account unique (tenant, system, account)
);
-- Every process looks for changed connections once a second.
create index connection_changed on connection (updated_at);

-- Messages on their way: pins, outbox, held, dead letters.

-- First receipt of a state event that brought neither version nor time; kept 90 days.
create table event_pin (
    tenant text not null,
    source text not null,
    event_id text not null,
    version text not null check (version ~ '^[0-9]{20}$'),
    pinned_at timestamptz not null default now(),
    primary key (tenant, source, event_id)
);
create index event_pin_age on event_pin (pinned_at);

-- What a source's versions count, pinned by its first event.
create table source_scheme (
    tenant text not null,
    source text not null,
    scheme text not null check (scheme in ('time', 'revision')),
    pinned_at timestamptz not null default now(),
    primary key (tenant, source)
);

-- Messages to their queues, whoever wrote them. A row is deleted after its confirm; no order between rows.
create table outbox (
    seq bigint generated always as identity primary key,
    tenant text,
    exchange text not null,
    routing_key text not null,
    body bytea not null,
    properties jsonb not null default '{}',
    headers jsonb not null default '{}',
    dedup_key text unique,
    attempts int not null default 0,
    last_error text,
    created_at timestamptz not null default now(),
    next_try_at timestamptz not null default now()
);
create index outbox_due on outbox (next_try_at, seq);

-- Events that wait for a cause to end. State events of one link coalesce to the newest.
create table held (
    id bigint generated always as identity primary key,
    worker text not null,
    tenant text not null,
    target_system text not null,
    connection_id uuid,
    reason text not null,
    detail text,
    lane smallint not null default 1,
    link_key text,
    k bytea,
    source text not null,
    event_id text not null,
    generation int not null default 0,
    type text not null,
    subject text not null,
    body bytea not null,
    properties jsonb not null,
    headers jsonb not null,
    release_at timestamptz,
    held_at timestamptz not null default now(),
    link_id bigint,
    -- A prerequisite: the record waits_system/waits_account/waits_kind/waits_id is linked at the row's connection. Or, with
    -- waits_key: no other record of that kind owns this natural key there.
    waits_kind text,
    waits_system text,
    waits_account text,
    waits_id text,
    waits_key text
);
create unique index held_one_per_link on held (worker, link_key) where link_key is not null;
create unique index held_one_per_fact on held (worker, tenant, source, event_id, connection_id) nulls not distinct where link_key is null;
create index held_by_connection on held (worker, tenant, connection_id, lane, id);
create index held_by_event on held (tenant, source, event_id);
create index held_by_link on held (link_id) where link_id is not null;
-- The keeper walks the rows of one cause by their ids.
create index held_by_reason on held (reason, id);
create index held_without_connection on held (tenant, target_system, id) where reason = 'no_connection';
-- What is held for a moment, and for longer once its connection is suspended.
create index held_briefly on held (connection_id) where reason in ('budget', 'circuit');
create index held_paced on held (connection_id, lane, id) where reason in ('budget', 'suspended', 'circuit');

-- The only copy of a dead event once the ledger has committed it.
create table dead_letter (
    id uuid primary key,
    worker text not null,
    tenant text,
    connection_id uuid,
    source text,
    event_id text,
    type text,
    subject text,
    link_id bigint,
    k bytea,
    state text not null check (state in ('open', 'replaying', 'resolved', 'overtaken', 'discarded')),
    generation int not null default 0,
    deaths int not null default 1,
    class text not null,
    fingerprint text not null,
    message text,
    partly_applied jsonb,
    trace_id text,
    body bytea not null,
    properties jsonb not null,
    headers jsonb not null,
    edited_body bytea,
    edited_by text,
    edited_at timestamptz,
    row_version int not null default 1,
    first_at timestamptz not null,
    last_at timestamptz not null,
    resolved_by text,
    resolved_at timestamptz,
    -- What somebody wrote who closed it, or how it ended.
    note text,
    -- Its replay is held for this cause: closed for now, and it lives on when the event is let go.
    held_for text,
    check (held_for is null or (state = 'resolved' and resolved_by = 'kurir'))
);
-- Lists read the latest first; every filter that is narrow has its order.
create index dead_letter_latest on dead_letter (last_at desc, id desc);
create index dead_letter_by_tenant on dead_letter (tenant, state, last_at desc, id desc);
create index dead_letter_by_fingerprint on dead_letter (fingerprint, state, last_at desc, id desc);
create index dead_letter_by_class on dead_letter (class, state, last_at desc, id desc);
create index dead_letter_by_subject on dead_letter (subject, last_at desc);
create index dead_letter_by_record on dead_letter (substr(subject, strpos(subject, '/') + 1), last_at desc);
-- Every completion asks for its link's letters, given up ones too.
create index dead_letter_by_link on dead_letter (link_id) where link_id is not null;
-- Groups are counted from this index alone.
create index dead_letter_groups on dead_letter (state, last_at desc, id desc) include (fingerprint, tenant, first_at);
-- Neighbours of a crash that nobody has replayed yet.
create index dead_letter_neighbours on dead_letter (last_at) where class = 'crash_neighbour' and state = 'open';
-- What the keeper counts every quarter of a minute is counted from small indexes.
create index dead_letter_unsettled on dead_letter (worker, class, state, last_at) where state in ('open', 'replaying');

-- What a search looks through. It stands here and not in functions/ because an index is built on it: its text changes only
-- together with the index, by a migration.
create function dead_letter_words(p_subject text, p_event text, p_source text, p_message text) returns text
    language sql immutable parallel safe as $$
    select lower(coalesce(p_subject, '') || ' ' || coalesce(p_event, '') || ' ' || coalesce(p_source, '') || ' '
        || coalesce(p_message, ''))
$$;
create index dead_letter_by_words on dead_letter using gin (dead_letter_words(subject, event_id, source, message) gin_trgm_ops);

-- What happened to a dead event; no foreign key: an event applied meanwhile leaves only history.
create table dead_letter_history (
    dead_id uuid not null,
    generation int not null,
    kind text not null,
    attempt int not null default 0,
    at timestamptz not null,
    actor text,
    detail jsonb,
    -- One row per death: a second copy of the same death has the same `at`, a later death has another.
    unique (dead_id, generation, kind, attempt, at)
);

-- When a worker was last asked to look at a link (`due` is what it was asked for), so that replicas of the janitor
-- share the work and a slow worker is not asked every minute.
create table janitor_request (
    link_id bigint not null,
    what text not null check (what in ('resolve', 'recheck')),
    due timestamptz not null,
    asked_at timestamptz not null,
    primary key (link_id, what)
);

-- Links, effects and what belongs to them (docs/architecture.md, "Links").

create table link (
    id bigint generated always as identity primary key,
    tenant text not null,
    kind text not null,
    source_system text not null,
    source_account text not null,
    source_id text not null,
    target_system text not null,
    connection_id uuid not null,
    -- Whose link it is: claims of other workers are refused, requests of ours go to its queue.
    worker text not null,
    target_id text,
    -- The target before a delete that made no partner call: a re-creation looks there first, because an index may lag.
    former_target_id text,
    state text not null default 'pending' check (state in ('pending', 'linked', 'conflict', 'deleted', 'alias')),
    desired_k bytea,
    -- Digest of what desired_k wants, where that is known: tells two contents with one version apart.
    desired_content text,
    applied_k bytea,
    -- {field: {"sent": text|null, "stored": text?}}: the content both sides last agreed on.
    base jsonb not null default '{}',
    -- {part id: {"kind", "signature", "owner": "ours"|"found", "fields"}}: only confirmed ones.
    target_parts jsonb not null default '{}',
    -- Last time that a call of ours was confirmed for this record, or that it was adopted: what a look shows or does not
    -- show so soon afterwards may be from before.
    written_at timestamptz,
    -- Beginning of the first look that counts and did not show the record; empty when it is seen again, or written.
    missing_since timestamptz,
    -- Which conflict it is, while there is one (store::links::ConflictCause).
    conflict_cause text check (conflict_cause in ('key_taken', 'several_records', 'record_taken', 'gone', 'second_record', 'orphan',
        'part_twice', 'late_create', 'unclear_create', 'recheck_failed')),
    lease_token uuid,
    lease_until timestamptz,
    -- Set back as a whole; its k is null for a request.
    claim running_claim,
    recheck_at timestamptz,
    recheck_step smallint not null default 0,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (tenant, kind, source_system, source_account, source_id, target_system, connection_id)
-- A link is changed several times per event: with room in its page, its indexes are not.
) with (fillfactor = 70);
create unique index link_one_per_target on link (tenant, target_system, connection_id, kind, target_id)
    where target_id is not null and state <> 'alias';
create index link_recheck_due on link (recheck_at) where recheck_at is not null;
create index link_by_source on link (tenant, kind, source_id);
-- Counted every quarter of a minute.
create index link_in_conflict on link (target_system) where state = 'conflict';

-- One partner call. At most one open effect per link: the row is the fence.
-- No foreign key here and in link_history: both are only written under the lock of a link, links are never deleted, and the
-- check would cost each event two more statements.
create table effect (
    id uuid primary key,
    link_id bigint not null,
    tenant text not null,
    source text not null,
    event_id text not null,
    generation int not null,
    k bytea,
    operation text not null check (operation in ('create', 'update', 'append_part', 'change_part', 'delete')),
    state text not null check (state in ('sent', 'unknown', 'failed', 'confirmed', 'abandoned')),
    last boolean not null,
    -- What was sent: {"fields", "parts", "part_id", "keys"}.
    request jsonb not null,
    target_id text,
    outcome text,
    sent_at timestamptz not null,
    -- From then on an absent look-up is believed.
    settle_at timestamptz not null,
    resolved_at timestamptz,
    late_at timestamptz,
    created_at timestamptz not null default now()
);
create unique index effect_one_open on effect (link_id) where state in ('sent', 'unknown');
create index effect_by_link on effect (link_id, created_at);

-- Superseded envelopes not yet covered by an applied version; at most 16 per link.
create table link_event (
    link_id bigint not null references link,
    k bytea not null,
    source text not null,
    event_id text not null,
    generation int not null,
    body bytea not null,
    properties jsonb not null,
    headers jsonb not null,
    kept_at timestamptz not null default now(),
    primary key (link_id, k)
);

-- One link per natural key of a record.
create table natural_key_claim (
    tenant text not null,
    connection_id uuid not null,
    kind text not null,
    natural_key text not null,
    link_id bigint not null references link,
    claimed_at timestamptz not null default now(),
    primary key (tenant, connection_id, kind, natural_key)
);
create index natural_key_by_link on natural_key_claim (link_id);

-- Claims that were taken over without having been settled: one row per token.
create table unsettled_claim (
    token uuid primary key,
    tenant text not null,
    link_id bigint not null references link,
    source text not null,
    event_id text not null,
    generation int not null,
    taken_over_at timestamptz not null default now()
);
create index unsettled_by_event on unsettled_claim (link_id, source, event_id);

-- A record's story: one row per change.
create table link_history (
    id bigint generated always as identity primary key,
    link_id bigint not null,
    tenant text not null,
    at timestamptz not null,
    what text not null,
    k bytea,
    source text,
    event_id text,
    generation int,
    target_id text,
    detail jsonb not null default '{}',
    -- Envelopes that left link_event at its cap: the fall-back still finds them here.
    body bytea,
    properties jsonb,
    headers jsonb
);
create index link_history_by_link on link_history (link_id, id);
create index link_history_kept_out on link_history (link_id) where what = 'kept_out' and body is not null;

-- What the fleet may ask of a partner, one account per connection: permits, calls in flight, cooldown, circuits.

create table budget (
    connection_id uuid primary key references connection,
    tenant text not null,
    -- As the workers last applied it (docs/limits.md).
    spec jsonb not null default '{}',
    buckets jsonb not null default '[]',
    -- Per bucket, by its length in ms: the moment, in µs since the epoch, at which all leased permits will be back.
    arrival jsonb not null default '{}',
    -- Permits since ever: leased, and given back unused.
    leased bigint not null default 0,
    returned bigint not null default 0,
    -- Questions that were answered.
    asked bigint not null default 0,
    -- Calls that one event needs, as the workers see it.
    cost real not null default 4,
    cooldown_until timestamptz,
    cooldown_ms bigint,
    cooldown_reason text,
    cooldowns bigint not null default 0,
    -- The last call that was answered well.
    fine_at timestamptz,
    -- Held events that were let go, and those that arrived at a worker.
    released bigint not null default 0,
    begun bigint not null default 0,
    begun_at timestamptz,
    updated_at timestamptz not null default now()
);
create index budget_tenant on budget (tenant);

-- Which process may have how many calls in flight, until when.
create table budget_holder (
    connection_id uuid not null references budget on delete cascade,
    holder uuid not null,
    slots int not null,
    slots_wanted int not null,
    searches int not null,
    searches_wanted int not null,
    since timestamptz not null,
    until timestamptz not null,
    primary key (connection_id, holder)
);

-- An operation that kept failing. No row: closed. `open_until` passed: half open, one canary in the fleet.
create table circuit (
    connection_id uuid not null references budget on delete cascade,
    operation text not null,
    open_until timestamptz not null,
    open_ms bigint not null,
    canary_until timestamptz,
    reason text not null,
    primary key (connection_id, operation)
);

-- Replays of dead letters with the outcome of each.

-- A replay: the letters that somebody chose, sent to their workers at a pace. It belongs to who asked: a tenant, or
-- nobody for the operator.
create table replay (
    id uuid primary key,
    tenant text,
    requested_by text not null,
    -- The same key of the same asker is the same replay.
    idempotency_key text,
    -- Which letters were asked for, as they were asked for.
    selection jsonb not null,
    restamp boolean not null default false,
    -- Made by the keeper: neighbours of a crash get one more chance.
    automatic boolean not null default false,
    state text not null check (state in ('running', 'paused', 'stopped', 'done', 'cancelled')),
    -- Letters per second.
    rate_max real not null check (rate_max > 0),
    rate_now real not null default 1,
    -- Since when `rate_now` holds; since when failures count towards stopping.
    paced_at timestamptz not null,
    window_at timestamptz not null,
    -- The next letter may be sent at this time.
    next_at timestamptz not null,
    stopped_reason text,
    lease_owner uuid,
    lease_until timestamptz,
    created_at timestamptz not null,
    ended_at timestamptz
);
create unique index replay_asked_once on replay (coalesce(tenant, ''), idempotency_key) where idempotency_key is not null;
create index replay_running on replay (created_at) where state = 'running';
create index replay_latest on replay (created_at desc, id desc);

-- One letter of a replay. Its state follows the letter's by `follow_replay`, in the transaction that moves the letter.
create table replay_item (
    replay_id uuid not null references replay,
    dead_id uuid not null,
    -- Order of sending: who died first goes first.
    place bigint not null,
    worker text not null,
    -- The life it was sent as.
    generation int,
    state text not null check (state in ('waiting', 'sent', 'retrying', 'done', 'overtaken', 'failed', 'held', 'skipped', 'cancelled')),
    -- Why it is held.
    held_for text check (held_for is null or state = 'held'),
    -- failed: the fingerprint; skipped: why; held for a connection that lets nothing go: which.
    detail text,
    sent_at timestamptz,
    -- Last news.
    at timestamptz not null,
    primary key (replay_id, dead_id)
);
create index replay_item_by_letter on replay_item (dead_id, generation);
-- A letter waits in one replay at most.
create unique index replay_item_waits_once on replay_item (dead_id) where state = 'waiting';
create index replay_item_next on replay_item (replay_id, place) where state = 'waiting';
create index replay_item_by_state on replay_item (replay_id, state, at);
create index replay_item_under_way on replay_item (worker)
    where state in ('sent', 'retrying') or held_for in ('budget', 'circuit');
create index replay_item_ended on replay_item (replay_id, at desc)
    where sent_at is not null and state in ('done', 'overtaken', 'failed', 'held');

-- Something people must be told once, whoever of the replicas noticed it. `sent_at`: told.
create table notification (
    id bigint generated always as identity primary key,
    tenant text not null,
    kind text not null check (kind in ('connection_suspended')),
    connection_id uuid,
    -- Of the connection, after the change that this tells of: one suspension is one row.
    epoch bigint,
    at timestamptz not null,
    text text not null,
    sent_at timestamptz,
    unique (connection_id, epoch)
);
create index notification_unsent on notification (id) where sent_at is null;

-- What people did by hand. Never changed, never deleted.
create table audit (
    id bigint generated always as identity primary key,
    actor text not null,
    -- `<thing>.<verb>`
    what text not null,
    -- Null: the whole installation.
    tenant text,
    detail jsonb not null default '{}',
    at timestamptz not null
);
create index audit_by_tenant on audit (tenant, id);
