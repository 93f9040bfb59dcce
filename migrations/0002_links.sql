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
    target_id text,
    state text not null default 'pending' check (state in ('pending', 'linked', 'conflict', 'deleted', 'alias')),
    desired_k bytea,
    -- Digest of what desired_k wants, where that is known: tells two contents with one version apart.
    desired_content text,
    applied_k bytea,
    -- {field: {"sent": text|null, "stored": text?}}: the content both sides last agreed on.
    base jsonb not null default '{}',
    base_hash text,
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
    -- The running claim: event id and source, generation, k, token.
    claim_event text,
    claim_generation int,
    claim_k bytea,
    claim_token uuid,
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
    state text not null check (state in ('planned', 'sent', 'unknown', 'dropped', 'failed', 'confirmed', 'abandoned')),
    token uuid not null,
    last boolean not null,
    -- What was sent: {"fields", "parts", "part_id", "keys"}.
    request jsonb not null,
    request_digest text not null,
    before_image jsonb,
    target_id text,
    response_digest text,
    outcome text,
    sent_at timestamptz,
    settle_at timestamptz,
    resolved_at timestamptz,
    late_at timestamptz,
    created_at timestamptz not null default now()
);
create unique index effect_one_open on effect (link_id) where state in ('planned', 'sent', 'unknown');
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
    k bytea,
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
