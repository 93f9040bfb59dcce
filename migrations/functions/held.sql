-- What becomes of held events, and of a connection that is suspended.

-- The partner refused the credentials of this epoch. False: they were changed, tested or suspended meanwhile. The one
-- place where a connection is suspended: state, epoch and notification are one transaction.
create or replace function suspend_connection(p_tenant text, p_connection uuid, p_epoch bigint, p_reason text) returns boolean
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
create or replace function wait_is_over(p_tenant text, p_system text, p_connection uuid, p_link bigint, p_kind text, p_of_system text,
    p_of_account text, p_of_id text, p_key text) returns boolean language sql stable as $$
    select case
        when p_key is not null then not exists (select 1 from natural_key_claim where tenant = p_tenant and connection_id = p_connection
            and kind = p_kind and natural_key = p_key and link_id is distinct from p_link)
        when p_of_id is not null then exists (select 1 from link where tenant = p_tenant and kind = p_kind and source_system = p_of_system
            and source_account = p_of_account and source_id = p_of_id and target_system = p_system
            and connection_id = p_connection and named_target(link) is not null)
        else false end
$$;

-- These conflicts count as settled; the caller has locked the links. A person (p_actor) who says so also gives up an open create
-- that nothing can look up, once no call of it can take effect any more: the next handling creates anew, and a late answer of
-- the old call is a conflict of its own.
create or replace function settle_conflicts(p_links bigint[], p_actor text) returns void language plpgsql volatile as $$
declare t timestamptz;
begin
    t := kurir_now();
    if p_actor is not null then
        with abandoned_effects as (
            update effect e set state = 'abandoned', outcome = 'given up by hand', resolved_at = t
            from link l where l.id = any (p_links) and l.state = 'conflict' and l.conflict_cause = 'unclear_create'
                and e.link_id = l.id and e.state in ('sent', 'unknown') and e.settle_at <= t
            returning e.*)
        insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, target_id, detail)
        select link_id, tenant, t, 'abandoned', k, source, event_id, generation, target_id,
            jsonb_build_object('operation', operation, 'outcome', outcome, 'actor', p_actor)
        from abandoned_effects;
    end if;
    update link set state = case when target_id is null then 'pending' else 'linked' end, conflict_cause = null,
        -- Whoever says that it is settled wants it looked at anew.
        missing_since = null, last_error = null, updated_at = t
        where id = any (p_links) and state = 'conflict';
end $$;

-- Rows that the caller has picked and locked go back to their workers, with the counters of a first delivery and the same
-- generation. p_headers: more headers for them. p_actor: whoever does it by hand; then their claims that never came back are
-- forgotten, while what leaves by itself has only waited: an event that ends its workers must not begin anew with each wait.
-- A conflict that is released counts as settled; its links are locked by the caller before the rows.
create or replace function release_held(p_ids bigint[], p_prefix text, p_headers jsonb, p_actor text) returns bigint language plpgsql volatile as $$
declare n bigint;
begin
    perform settle_conflicts(array(select link_id from held where id = any (p_ids) and reason = 'conflict'), p_actor);
    with gone as (delete from held where id = any (p_ids) returning *),
        forgiven as (
            delete from unsettled_claim u using gone g, link l
            where p_actor is not null and l.id = u.link_id and u.tenant = g.tenant and u.source = g.source and u.event_id = g.event_id
              and l.target_system = g.target_system and (g.connection_id is null or l.connection_id = g.connection_id)
              and (g.facet is null or l.kind = g.facet)),
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

-- A person gives a held event up: as a dead letter nobody will replay, so that stale copies are recognised. The row is named
-- together with the event that was seen in it: a newer one may have taken its place.
create or replace function discard_held(p_tenant text, p_id bigint, p_source text, p_event text, p_generation int, p_dead_id uuid,
    p_queue text, p_actor text, p_note text) returns boolean
    language plpgsql volatile as $$
declare h held; t timestamptz;
begin
    select * into h from held where id = p_id and tenant = p_tenant and source = p_source and event_id = p_event
        and generation = p_generation;
    if not found then
        return false;
    end if;
    if h.link_id is not null then
        perform 1 from link where id = h.link_id for update;
    end if;
    delete from held where id = p_id and source = p_source and event_id = p_event and generation = p_generation returning * into h;
    if not found then
        return false;
    end if;
    t := kurir_now();
    insert into dead_letter as v (id, worker, tenant, connection_id, source, event_id, type, subject, link_id, k, state, generation,
        class, fingerprint, message, body, properties, headers, first_at, last_at, resolved_by, resolved_at, note)
    values (p_dead_id, h.worker, h.tenant, h.connection_id, h.source, h.event_id, h.type, h.subject, h.link_id, h.k, 'discarded',
        h.generation, h.reason, 'held:' || h.reason, h.detail, h.body, h.properties, h.headers, h.held_at, t, p_actor, t, p_note)
    on conflict (id) do update set state = 'discarded', generation = excluded.generation, last_at = excluded.last_at,
        resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at, note = excluded.note, held_for = null, row_version = v.row_version + 1;
    -- A replay's dead letter may have died before it had a connection, and has another id then.
    update dead_letter set state = 'discarded', resolved_by = p_actor, resolved_at = t, note = p_note, held_for = null,
        row_version = row_version + 1
        where id = (h.headers ->> 'x-dead-letter')::uuid and id <> p_dead_id and tenant = h.tenant and worker = h.worker
          and generation = h.generation and (state = 'replaying' or held_for is not null);
    insert into audit (actor, what, tenant, detail, at)
    values (p_actor, 'held.discard', h.tenant, jsonb_build_object('held', h.id, 'source', h.source, 'event', h.event_id,
        'generation', h.generation, 'cause', h.reason, 'dead_letter', p_dead_id, 'note', p_note), t);
    if h.link_id is not null and h.k is not null then
        perform fall_back(h.link_id, h.k, p_queue);
        insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
        values (h.link_id, h.tenant, t, 'discarded', h.k, h.source, h.event_id, h.generation, jsonb_build_object('actor', p_actor, 'note', p_note));
    end if;
    return true;
end $$;
