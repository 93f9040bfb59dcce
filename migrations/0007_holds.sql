-- What held events wait for, their way back, suspensions that people are told of, and who did what by hand.

-- A prerequisite: the record waits_system/waits_account/waits_kind/waits_id is linked at the row's connection. Or, with
-- waits_key: no other record of that kind owns this natural key there.
alter table held add column waits_kind text;
alter table held add column waits_system text;
alter table held add column waits_account text;
alter table held add column waits_id text;
alter table held add column waits_key text;
-- The keeper walks the rows of one cause by their ids.
create index held_by_reason on held (reason, id);
create index held_without_connection on held (tenant, target_system, id) where reason = 'no_connection';

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

-- The partner refused the credentials of this epoch. False: they were changed, tested or suspended meanwhile. The one
-- place where a connection is suspended: state, epoch and notification are one transaction.
create function suspend_connection(p_tenant text, p_connection uuid, p_epoch bigint, p_reason text) returns boolean
    language plpgsql volatile as $$
declare c connection;
begin
    update connection set state = 'suspended', state_reason = p_reason, epoch = epoch + 1, updated_at = clock_timestamp()
        where id = p_connection and tenant = p_tenant and epoch = p_epoch and state = 'ok' returning * into c;
    if not found then
        return false;
    end if;
    insert into notification (tenant, kind, connection_id, epoch, at, text)
    values (c.tenant, 'connection_suspended', c.id, c.epoch, kurir_now(),
        'the connection to ' || c.system || ' is suspended: ' || coalesce(p_reason, 'no reason given'));
    return true;
end $$;

-- Whether what a held event waits for is there. Nothing named: nobody knows, so no.
create function wait_is_over(p_tenant text, p_system text, p_connection uuid, p_link bigint, p_kind text, p_of_system text,
    p_of_account text, p_of_id text, p_key text) returns boolean language sql stable as $$
    select case
        when p_key is not null then not exists (select 1 from natural_key_claim where tenant = p_tenant and connection_id = p_connection
            and kind = p_kind and natural_key = p_key and link_id is distinct from p_link)
        when p_of_id is not null then exists (select 1 from link where tenant = p_tenant and kind = p_kind and source_system = p_of_system
            and source_account = p_of_account and source_id = p_of_id and target_system = p_system
            and connection_id = p_connection and state in ('linked', 'alias'))
        else false end
$$;

-- Rows that the caller has picked and locked go back to their workers, with the counters of a first delivery and the same
-- generation. p_headers: more headers for them. p_actor: whoever does it by hand; then their claims that never came back are
-- forgotten, while what leaves by itself has only waited: an event that ends its workers must not begin anew with each wait.
-- A conflict that is released counts as settled; its links are locked by the caller before the rows.
create function release_held(p_ids bigint[], p_prefix text, p_headers jsonb, p_actor text) returns bigint language plpgsql volatile as $$
declare n bigint;
begin
    with gone as (delete from held where id = any (p_ids) returning *),
        forgiven as (
            delete from unsettled_claim u using gone g, link l
            where p_actor is not null and l.id = u.link_id and u.tenant = g.tenant and u.source = g.source and u.event_id = g.event_id
              and l.target_system = g.target_system and (g.connection_id is null or l.connection_id = g.connection_id)),
        settled as (
            update link l set state = case when l.target_id is null then 'pending' else 'linked' end, conflict_cause = null,
                -- Whoever says that it is settled wants it looked at anew.
                missing_since = null, last_error = null, updated_at = kurir_now()
            from gone g where l.id = g.link_id and l.state = 'conflict' and g.reason = 'conflict'),
        told as (
            insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
            select link_id, tenant, kurir_now(), 'released', k, source, event_id, generation,
                jsonb_build_object('reason', reason, 'actor', p_actor)
            from gone where link_id is not null and p_actor is not null),
        sent as (
            insert into outbox (tenant, exchange, routing_key, body, properties, headers, next_try_at)
            select tenant, '', p_prefix || '.' || worker, body, properties,
                fresh_headers(headers) || jsonb_build_object('x-generation', generation) || p_headers, kurir_now()
            from gone order by lane, id returning 1)
    select count(*) into n from sent;
    return n;
end $$;
