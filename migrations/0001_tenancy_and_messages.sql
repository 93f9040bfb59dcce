-- Tenants, their tokens and connections; messages on their way: pins, outbox, held, dead letters.
-- Links and effects are in 0002, the functions over them in 0003.

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
    -- One per tenant and system until events are split (one copy per connection).
    constraint connection_one_per_system unique (tenant, system)
);
-- Every process looks for changed connections once a second.
create index connection_changed on connection (updated_at);

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
    held_at timestamptz not null default now()
);
create unique index held_one_per_link on held (worker, link_key) where link_key is not null;
create unique index held_one_per_fact on held (worker, tenant, source, event_id, connection_id) nulls not distinct where link_key is null;
create index held_by_connection on held (worker, tenant, connection_id, lane, id);
create index held_by_event on held (tenant, source, event_id);

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
    note text
);
create index dead_letter_by_tenant on dead_letter (tenant, worker, state, last_at desc);
create index dead_letter_by_fingerprint on dead_letter (fingerprint) where state = 'open';
create index dead_letter_by_subject on dead_letter (tenant, subject);
create index dead_letter_by_link on dead_letter (link_id) where state in ('open', 'replaying');

-- What happened to a dead event; no foreign key: an event applied meanwhile leaves only history.
create table dead_letter_history (
    dead_id uuid not null,
    generation int not null,
    kind text not null,
    attempt int not null default 0,
    at timestamptz not null,
    actor text,
    detail jsonb,
    unique (dead_id, generation, kind, attempt)
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
