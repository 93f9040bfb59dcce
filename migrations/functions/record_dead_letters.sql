-- The ledger's transaction: the dead copy with its link. p_items: array of dead_item; p_bodies[idx + 1] is
-- the envelope. What could not be decoded has no tenant, source or key.
create or replace function record_dead_letters(p_items jsonb, p_bodies bytea[], p_outcomes text) returns table (idx int, verdict text) language plpgsql volatile as $$
declare i record; l link; d dead_letter; t timestamptz; done boolean; partly jsonb; fresh boolean; links bigint[]; x bigint; first_link bigint;
    n_class text; n_fingerprint text; n_message text;
begin
    perform lock_links(p_items, false);
    for i in
        select y.*, decode(y.k, 'hex') as key
        from jsonb_populate_recordset(null::dead_item, p_items) as y
        order by coalesce(y.tenant, ''), coalesce(y.kind, ''), coalesce(y.source_system, ''), coalesce(y.source_account, ''),
            coalesce(y.source_id, ''), y.dead_id, y.generation
    loop
        idx := i.idx; done := false; partly := null; first_link := null;
        -- By the link it names, else by the envelope: a broker-made death carries no header of ours. What died before it was
        -- for one of several connections has touched no link.
        select array_agg(f.id order by f.id) into links from (
            select id from link where id = i.link_id and tenant = i.tenant
            union
            select id from link where i.link_id is null and i.key is not null and tenant = i.tenant and kind = i.kind
                and source_system = i.source_system and source_account = i.source_account and source_id = i.source_id
                and target_system = i.target_system and connection_id = i.connection_id) f;
        if links is not null then
            perform 1 from link where id = any (links) order by id for update;
        end if;
        t := kurir_now();
        insert into dead_letter_history (dead_id, generation, kind, attempt, at, actor, detail)
        values (i.dead_id, i.generation, 'death', i.attempt, i.at, i.worker,
            jsonb_build_object('class', i.class, 'message', i.message)) on conflict do nothing;
        fresh := found;
        if not fresh then
            verdict := 'repeat'; return next; continue;
        end if;
        n_class := i.class; n_fingerprint := i.fingerprint; n_message := i.message;
        if i.class = 'delivery_limit' and not exists (
            select 1 from unsettled_claim u where u.link_id = any (links) and u.source = i.source and u.event_id = i.event_id
            union all
            select 1 from link m where m.id = any (links) and (m.claim).source = i.source and (m.claim).event = i.event_id) then
            -- Whole prefetch windows come along when one event ends its worker again and again.
            n_class := 'crash_neighbour';
            n_fingerprint := 'ledger:crash_neighbour';
            n_message := 'its worker ended again and again, and nothing shows that this event was the reason';
        end if;
        select * into d from dead_letter where id = i.dead_id for update;
        if found and (d.generation > i.generation
            or (d.state = 'open' and d.generation = i.generation and i.at <= d.last_at)
            or (d.state in ('resolved', 'overtaken', 'discarded') and d.generation = i.generation and i.at <= d.resolved_at)) then
            verdict := 'history'; return next; continue;
        end if;
        if links is not null and i.key is not null then
            foreach x in array links loop
                select * into l from link where id = x;
                if i.key <= l.applied_k then
                    done := true;
                else
                    first_link := coalesce(first_link, x);
                end if;
            end loop;
            if done and first_link is null then
                update dead_letter set state = 'resolved', resolved_by = 'kurir', resolved_at = t
                    where id = i.dead_id and state in ('open', 'replaying') and generation <= i.generation;
                verdict := 'applied'; return next; continue;
            end if;
            select * into l from link where id = first_link;
            select jsonb_agg(jsonb_build_object('operation', e.operation, 'at', e.resolved_at) order by e.resolved_at) into partly
                from effect e where e.link_id = l.id and e.source = i.source and e.event_id = i.event_id and e.state = 'confirmed';
        end if;
        insert into dead_letter as v (id, worker, tenant, connection_id, source, event_id, type, subject, link_id, k, state, generation,
            class, fingerprint, message, partly_applied, trace_id, body, properties, headers, first_at, last_at)
        values (i.dead_id, i.worker, i.tenant, i.connection_id, i.source, i.event_id, i.type, i.subject,
            first_link, i.key, 'open', i.generation, n_class, n_fingerprint, n_message, partly, i.trace_id, p_bodies[i.idx + 1],
            i.properties, i.headers, i.at, i.at)
        on conflict (id) do update set state = 'open', deaths = v.deaths + 1, generation = excluded.generation, class = excluded.class,
            fingerprint = excluded.fingerprint, message = excluded.message, partly_applied = excluded.partly_applied,
            last_at = excluded.last_at, k = excluded.k, link_id = excluded.link_id,
            connection_id = coalesce(excluded.connection_id, v.connection_id), resolved_at = null, resolved_by = null,
            headers = excluded.headers, held_for = null, row_version = v.row_version + 1;
        if links is not null and i.key is not null then
            foreach x in array links loop
                delete from unsettled_claim where link_id = x and source = i.source and event_id = i.event_id;
                update link set claim = null
                    where id = x and (claim).source = i.source and (claim).event = i.event_id and (lease_until is null or lease_until <= t);
                perform fall_back(x, i.key, i.queue);
                insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
                values (x, i.tenant, t, 'dead', i.key, i.source, i.event_id, i.generation,
                    jsonb_build_object('class', i.class, 'message', i.message, 'partly_applied', partly));
            end loop;
        end if;
        if n_class <> 'crash_neighbour' then
            -- Neighbours get one more chance by themselves.
            perform write_outcome(i.tenant, p_outcomes, i.outcome, t);
        end if;
        l := null;
        verdict := 'recorded'; return next;
    end loop;
end $$;
