-- Envelopes of superseded events: kept, and fallen back to.

-- Our own headers that describe one way through the queues; a new way begins without them.
create or replace function fresh_headers(p_headers jsonb) returns jsonb language sql immutable as $$
    select coalesce(p_headers, '{}'::jsonb) - array['x-attempt', 'x-waits', 'x-due', 'x-first-received', 'x-history',
        'x-link', 'x-permit', 'x-dead-class', 'x-dead-fingerprint', 'x-dead-message', 'x-dead-at']
$$;

create or replace function kept_limit() returns int language sql immutable as $$ select 16 $$;

-- Keeps a superseded envelope. Above the cap the lowest goes to history, where the fall-back still finds it.
create or replace function keep_envelope(p_link bigint, p_tenant text, p_k bytea, p_source text, p_event text, p_generation int,
    p_body bytea, p_properties jsonb, p_headers jsonb) returns void language plpgsql volatile as $$
begin
    insert into link_event (link_id, k, source, event_id, generation, body, properties, headers, kept_at)
    values (p_link, p_k, p_source, p_event, p_generation, p_body, p_properties, p_headers, kurir_now())
    on conflict do nothing;
    with lowest as (
        delete from link_event where link_id = p_link and k = (select k from link_event where link_id = p_link order by k limit 1)
            and (select count(*) from link_event where link_id = p_link) > kept_limit()
        returning *)
    insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, body, properties, headers)
    select link_id, p_tenant, kurir_now(), 'kept_out', k, source, event_id, generation, body, properties, headers from lowest;
end $$;

-- The event with key p_k is dead, discarded or held for a person: the link wants the highest older content again,
-- which goes straight to its worker's queue. The caller has locked the link. Returns the key fallen back to.
create or replace function fall_back(p_link bigint, p_k bytea, p_queue text) returns bytea language plpgsql volatile as $$
declare l link; kept record;
begin
    select * into l from link where id = p_link;
    delete from link_event where link_id = p_link and k = p_k;
    update link_history set body = null where link_id = p_link and what = 'kept_out' and k = p_k;
    if l.desired_k > p_k then
        return null;
    end if;
    -- Below or nothing: p_k was held before it was ever claimed, and what gave way to it is kept here and nowhere else.
    select * into kept from (
        select k, body, properties, headers, generation from link_event where link_id = p_link
        union all
        select k, body, properties, headers, generation from link_history
            where link_id = p_link and what = 'kept_out' and body is not null) older
        where k > coalesce(l.applied_k, ''::bytea) and k < p_k order by k desc limit 1;
    update link set desired_k = case when l.desired_k = p_k then coalesce(kept.k, l.applied_k) else greatest(l.desired_k, kept.k) end,
        desired_content = null,
        updated_at = kurir_now() where id = p_link;
    if kept.k is not null then
        insert into outbox (tenant, exchange, routing_key, body, properties, headers, created_at, next_try_at)
        values (l.tenant, '', p_queue, kept.body, kept.properties,
            fresh_headers(kept.headers) || jsonb_build_object('x-generation', kept.generation), kurir_now(), kurir_now());
    elsif l.desired_k = p_k and l.target_id is null then
        -- Nothing living is left of this record and nothing was made: its keys are free for others. A frozen owner
        -- is fenced off first.
        if not exists (select 1 from effect where link_id = p_link and state in ('sent', 'unknown')) then
            update link set lease_token = null, lease_until = null where id = p_link;
            delete from natural_key_claim where link_id = p_link;
        end if;
    end if;
    return kept.k;
end $$;
