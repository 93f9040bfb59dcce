-- What the gate says of a suspended connection (`worker::gate`).
create or replace function suspended_words() returns text language sql immutable as $$
    select 'the connection is suspended; repair its credentials, then run `kurir connection test`'
$$;

-- Hold a batch. p_items: array of hold_item; p_bodies[idx + 1] is the envelope. A request of ours names its link,
-- and is held for that link's connection. A budget and a circuit are known from a worker's memory: where the connection is
-- suspended by now, that is what holds the event. Verdicts: held | cause_gone | covered.
create or replace function hold_events(p_items jsonb, p_bodies bytea[]) returns table (idx int, verdict text) language plpgsql volatile as $$
declare i record; l link; h held; t timestamptz; key_text text; coalesces boolean; done boolean; n_headers jsonb; dead_letter_id uuid;
begin
    perform lock_links(p_items, true);
    for i in
        select y.*, decode(y.k, 'hex') as key, coalesce(y.connection_id, named.connection_id) as at_connection
        from jsonb_populate_recordset(null::hold_item, p_items) as y
        left join link named on named.id = y.link_id and named.tenant = y.tenant
        -- connections are suspended below: those too in one order
        order by coalesce(y.tenant, ''), coalesce(coalesce(y.connection_id, named.connection_id)::text, ''), decode(y.k, 'hex') desc nulls last
    loop
        idx := i.idx; l := null; key_text := null;
        n_headers := fresh_headers(i.headers) || jsonb_build_object('x-generation', i.generation);
        -- The dead letter that this event is a replay of.
        select id into dead_letter_id from dead_letter where id = (i.headers ->> 'x-dead-letter')::uuid and tenant = i.tenant and worker = i.worker;
        if i.cause = 'no_connection' then
            -- `connection add` updates the tenant's row first: either it sees our row, or we see its connection.
            perform 1 from tenant where id = i.tenant for share;
            if not found or exists (select 1 from connection where tenant = i.tenant and system = i.target_system) then
                verdict := 'cause_gone'; return next; continue;
            end if;
        elsif i.cause = 'suspended' and i.epoch is not null then
            -- Seen before the call: a connection repaired since then is neither suspended again nor held for.
            done := suspend_connection(i.tenant, i.at_connection, i.epoch, i.detail);
            -- Another statement: this one waited, and must see who was first.
            if not done and not exists (select 1 from connection where id = i.at_connection and tenant = i.tenant and state = 'suspended' for share) then
                verdict := 'cause_gone'; return next; continue;
            end if;
        elsif i.cause in ('budget', 'circuit')
            and exists (select 1 from connection where id = i.at_connection and tenant = i.tenant and state = 'suspended') then
            -- One that is suspended a moment later: `hold_for_suspension`.
            i.cause := 'suspended'; i.detail := suspended_words(); i.release_at := null;
        end if;
        if i.cause = 'prerequisite' and wait_is_over(i.tenant, i.target_system, i.at_connection, null, i.waits_kind, i.waits_system,
            i.waits_account, i.waits_id, i.waits_key) then
            verdict := 'cause_gone'; return next; continue;
        end if;
        t := kurir_now();
        coalesces := i.key is not null and not i.person;
        if i.key is not null and i.at_connection is not null then
            select * into l from link where tenant = i.tenant and kind = i.kind and source_system = i.source_system
                and source_account = i.source_account and source_id = i.source_id and target_system = i.target_system
                and connection_id = i.at_connection;
            t := kurir_now();
            if i.key <= l.applied_k then
                perform close_dead_letter(dead_letter_id, i.generation, 'resolved', null, null, t);
                verdict := 'covered'; return next; continue;
            end if;
            if i.cause = 'conflict' and l.state <> 'conflict' then
                -- Somebody settled it between the claim and this hold.
                verdict := 'cause_gone'; return next; continue;
            end if;
        end if;
        if coalesces then
            key_text := coalesce(l.id::text, concat_ws('/', i.tenant, i.kind, i.source_system, i.source_account, i.source_id));
            select * into h from held where worker = i.worker and link_key = key_text for update;
            if found and h.k > i.key then
                if l.id is not null then
                    perform keep_envelope(l.id, l.tenant, i.key, i.source, i.event_id, i.generation, p_bodies[i.idx + 1], i.properties, n_headers);
                    -- Its dead letter waits for what the newer one waits for.
                    perform close_dead_letter(dead_letter_id, i.generation, 'resolved', h.reason, null, t);
                    update dead_letter set link_id = l.id, k = i.key where id = dead_letter_id and generation = i.generation and held_for is not null;
                    verdict := 'covered'; return next; continue;
                end if;
            elsif found and h.k < i.key and l.id is not null then
                perform keep_envelope(l.id, l.tenant, h.k, h.source, h.event_id, h.generation, h.body, h.properties, h.headers);
            end if;
            if l.id is null then
                -- Without a connection there is no link to keep the older one: every version stays a row of its own.
                key_text := null;
            end if;
        end if;
        if key_text is not null then
            insert into held (worker, tenant, target_system, connection_id, reason, detail, lane, link_key, link_id, k, source,
                event_id, generation, type, subject, body, properties, headers, release_at, waits_kind, waits_system,
                waits_account, waits_id, waits_key, held_at)
            values (i.worker, i.tenant, i.target_system, i.at_connection, i.cause, i.detail, coalesce(i.lane, 1::smallint), key_text,
                l.id, i.key, i.source, i.event_id, i.generation, i.type, i.subject, p_bodies[i.idx + 1], i.properties, n_headers,
                i.release_at, i.waits_kind, i.waits_system, i.waits_account, i.waits_id, i.waits_key, t)
            on conflict (worker, link_key) where link_key is not null do update set reason = excluded.reason,
                detail = excluded.detail, k = excluded.k, source = excluded.source, event_id = excluded.event_id,
                generation = excluded.generation, type = excluded.type, subject = excluded.subject, body = excluded.body,
                properties = excluded.properties, headers = excluded.headers, held_at = excluded.held_at,
                lane = least(held.lane, excluded.lane), release_at = excluded.release_at, waits_system = excluded.waits_system,
                waits_account = excluded.waits_account, waits_id = excluded.waits_id,
                -- A claim of a link in conflict does not know whether the conflict is about a key.
                waits_kind = case when held.reason = 'conflict' and excluded.reason = 'conflict' and excluded.waits_key is null
                    then held.waits_kind else excluded.waits_kind end,
                waits_key = case when held.reason = 'conflict' and excluded.reason = 'conflict' and excluded.waits_key is null
                    then held.waits_key else excluded.waits_key end
                where excluded.k >= held.k;
        else
            insert into held (worker, tenant, target_system, connection_id, reason, detail, lane, link_id, k, source, event_id,
                generation, type, subject, body, properties, headers, release_at, waits_kind, waits_system, waits_account,
                waits_id, waits_key, held_at)
            values (i.worker, i.tenant, i.target_system, i.at_connection, i.cause, i.detail, coalesce(i.lane, 1::smallint), l.id,
                i.key, i.source, i.event_id, i.generation, i.type, i.subject, p_bodies[i.idx + 1], i.properties, n_headers,
                i.release_at, i.waits_kind, i.waits_system, i.waits_account, i.waits_id, i.waits_key, t)
            on conflict (worker, tenant, source, event_id, connection_id, facet) where link_key is null
                do update set generation = greatest(held.generation, excluded.generation);
        end if;
        if l.id is not null then
            if i.person then
                -- What leaves by itself only waits: a process that ended under it counts on.
                delete from unsettled_claim where link_id = l.id and source = i.source and event_id = i.event_id;
                perform fall_back(l.id, i.key, i.queue);
            end if;
            insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
            values (l.id, l.tenant, t, 'held', i.key, i.source, i.event_id, i.generation, jsonb_build_object('reason', i.cause, 'detail', i.detail));
        end if;
        -- Held again for another cause, the dead letter says the new one. Its link closes it, whatever it knew when it died.
        perform close_dead_letter(dead_letter_id, i.generation, 'resolved', i.cause, null, t);
        update dead_letter set link_id = coalesce(l.id, link_id), k = coalesce(i.key, k)
            where id = dead_letter_id and generation = i.generation and held_for is not null;
        if key_text is not null then
            -- Older ones of this record that gave way here wait for the same.
            update dead_letter set held_for = i.cause, row_version = row_version + 1
                where link_id = l.id and k < i.key and held_for <> i.cause;
        end if;
        verdict := 'held'; return next;
    end loop;
end $$;
