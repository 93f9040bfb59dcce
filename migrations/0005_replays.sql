-- Replays of dead letters with the outcome of each, and the indexes by which one of 100 000 dead letters is found.

-- Trusted since PostgreSQL 13: whoever may create tables in this database may create it.
create extension if not exists pg_trgm;

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
    -- failed: the fingerprint; held: the cause; skipped: why.
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
    where state in ('sent', 'retrying') or (state = 'held' and detail in ('budget', 'circuit'));
create index replay_item_ended on replay_item (replay_id, at desc)
    where sent_at is not null and state in ('done', 'overtaken', 'failed', 'held');

-- A letter that moves takes its items along: the one of this life, and the one that has not been sent yet.
create function follow_replay() returns trigger language plpgsql as $$
declare
    died boolean := new.deaths > old.deaths;
    held boolean := new.state = 'resolved' and new.resolved_by = 'kurir' and coalesce(new.note, '') like 'held: %';
begin
    update replay_item set at = kurir_now(),
        state = case when died then 'failed' when held then 'held' when new.state = 'resolved' then 'done'
            when new.state = 'overtaken' then 'overtaken' else 'skipped' end,
        detail = case when died then new.fingerprint when held then substring(new.note from 7)
            when new.state = 'discarded' then 'discarded by ' || coalesce(new.resolved_by, 'nobody') end
        where dead_id = new.id and generation = new.generation and state <> 'waiting' and (
            (died and state in ('sent', 'retrying', 'held', 'done'))
            or (new.state in ('resolved', 'overtaken', 'discarded') and state in ('sent', 'retrying', 'held')));
    if new.state in ('resolved', 'overtaken', 'discarded') then
        update replay_item set at = kurir_now(),
            state = case new.state when 'overtaken' then 'overtaken' else 'skipped' end,
            detail = new.state || coalesce(' by ' || new.resolved_by, '')
            where dead_id = new.id and state = 'waiting';
    end if;
    return null;
end $$;
create trigger dead_letter_moves after update on dead_letter for each row
    when (old.state is distinct from new.state or old.deaths is distinct from new.deaths or old.note is distinct from new.note)
    execute function follow_replay();

-- What a search looks through.
create function dead_letter_words(p_subject text, p_event text, p_source text, p_message text) returns text
    language sql immutable parallel safe as $$
    select lower(coalesce(p_subject, '') || ' ' || coalesce(p_event, '') || ' ' || coalesce(p_source, '') || ' '
        || coalesce(p_message, ''))
$$;
create index dead_letter_by_words on dead_letter using gin (dead_letter_words(subject, event_id, source, message) gin_trgm_ops);

-- Lists read the latest first; every filter that is narrow has its order.
drop index dead_letter_by_tenant;
drop index dead_letter_by_fingerprint;
drop index dead_letter_by_subject;
drop index dead_letter_by_link;
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
