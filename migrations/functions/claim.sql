create or replace function key_event(k bytea) returns text language sql immutable as $$
    select convert_from(substring(k from 22 for length(k) - 26), 'utf8')
$$;

-- Two changes of one record carry one version: which content stays is decided by their ids, and the record's story says so, once.
create or replace function tell_same_version(l link, p_k bytea, p_other bytea, p_source text, p_event text, p_generation int, p_content text,
    t timestamptz) returns void language sql volatile as $$
    insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
    select l.id, l.tenant, t, 'same_version', p_k, p_source, p_event, p_generation,
        jsonb_build_object('other', key_event(p_other), 'wins', key_event(greatest(p_k, p_other)),
            'content', case when p_other = l.desired_k then
                case when l.desired_content = p_content then 'same' when l.desired_content <> p_content then 'other' end end)
    where substring(p_k for 20) = substring(p_other for 20) and key_event(p_k) <> key_event(p_other)
      and not exists (select 1 from link_history h where h.link_id = l.id and h.what = 'same_version' and h.source = p_source
        and h.event_id = p_event and h.generation = p_generation)
$$;

-- Claim a batch. p_items: array of claim_item; p_bodies[idx + 1] is the envelope. An item with link_id is a request of ours
-- (resolve, recheck): it raises nothing, is never a duplicate, and counts its claims under claim_as.
create or replace function claim_links(p_worker text, p_queue text, p_items jsonb, p_bodies bytea[], p_lease interval, p_exclusive boolean)
    returns table (idx int, verdict text, detail jsonb) language plpgsql volatile
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off as $$
declare
    i record; l link; n int; own boolean; live boolean; looks boolean; t timestamptz; last_link bigint; dead_letter_ids uuid[]; named jsonb; todo int[]; later int[];
    grants claim_grant[]; wants wanted_keys[] := '{}';
begin
    perform lock_links(p_items, true, p_worker);
    -- Usually once: what an earlier item of the batch may have changed is read anew in the next turn.
    loop
        t := kurir_now();
        last_link := null; dead_letter_ids := '{}'; later := '{}'; grants := '{}';
        for i in
            -- everything is read here, after the lock, in one statement for the whole batch
            with x as materialized (
                select x.*, decode(x.k, 'hex') as key, dead_letter_of(x.headers, x.dead_id) as dead_letter_id,
                    coalesce(x.claim_as, x.event_id) as counted_as,
                    coalesce(x.link_id, (select id from link where tenant = x.tenant and kind = x.kind
                        and source_system = x.source_system and source_account = x.source_account and source_id = x.source_id
                        and target_system = x.target_system and connection_id = x.connection_id)) as locked
                from jsonb_populate_recordset(null::claim_item, p_items) as x
                where todo is null or x.idx = any (todo))
            select x.*, r.link, d.state as dead_state, d.generation as dead_generation,
                d.held_for as dead_held_for, e.open,
                (select true from held where worker = p_worker and tenant = x.tenant and source = x.source
                    and event_id = x.event_id and connection_id is not distinct from x.connection_id
                    and generation = x.generation
                    and facet is not distinct from x.headers ->> 'x-facet' limit 1) as is_held,
                (select count(*)::int from unsettled_claim u where u.link_id = r.id and u.source = x.source
                    and u.event_id = x.counted_as) as unsettled,
                exists (select 1 from jsonb_array_elements_text(x.keys) wanted where not exists (
                    select 1 from natural_key_claim c where c.tenant = r.tenant and c.connection_id = r.connection_id
                        and c.kind = r.kind and c.natural_key = wanted and c.link_id = r.id)) as wants_keys,
                -- A conflict about a key is over when the newest content wants no key of another link.
                case when (r.link).conflict_cause = 'key_taken' then (
                    select c.natural_key from jsonb_array_elements_text(x.keys) wanted join natural_key_claim c
                        on c.tenant = r.tenant and c.connection_id = r.connection_id and c.kind = r.kind and c.natural_key = wanted
                    where c.link_id <> r.id order by c.natural_key limit 1) end as taken
            from x
            -- `offset 0`: row by row through the indexes, as above
            left join lateral (select m as link, m.id, m.tenant, m.connection_id, m.kind from link m
                where m.id = x.locked and m.tenant = x.tenant offset 0) r on true
            left join lateral (select state, generation, held_for from dead_letter where id = x.dead_letter_id offset 0) d on true
            left join lateral (select effect_json(e) as open from effect e
                where e.link_id = r.id and e.state in ('sent', 'unknown') offset 0) e on true
            order by x.locked, x.key desc nulls last
        loop
            idx := i.idx;
            detail := '{}';
            -- Its link, its dead letter or its held row may be changed below by the item before.
            if i.locked = last_link or dead_letter_ids && array[i.dead_letter_id, i.dead_id] then
                later := later || i.idx;
                last_link := i.locked;
                continue;
            end if;
            last_link := i.locked;
            dead_letter_ids := dead_letter_ids || array[i.dead_letter_id, i.dead_id];
            l := i.link;
            if l.id is null then
                verdict := 'stale'; return next; continue;
            end if;
            if l.worker <> p_worker then
                verdict := 'not_yours'; detail := jsonb_build_object('reason', l.worker); return next; continue;
            end if;
            live := coalesce(l.lease_token is not null and l.lease_until > t, false);
            own := coalesce((l.claim).event = i.counted_as and (l.claim).source = i.source, false);
            if i.key is not null then
                if i.dead_state is not null and (i.generation < i.dead_generation
                    or (i.dead_state in ('open', 'discarded') and i.generation <= i.dead_generation)) then
                    verdict := 'stale'; return next; continue;
                end if;
                if i.dead_generation = i.generation
                    and (i.dead_state = 'replaying' or i.dead_held_for is not null) then
                    -- It may have died before it had a link, or with another version: what is applied now closes its dead letter.
                    update dead_letter set link_id = l.id, k = i.key where id = i.dead_letter_id and (link_id is null or k is distinct from i.key);
                end if;
                if i.is_held then
                    verdict := 'already_held'; return next; continue;
                end if;
                if i.key <= l.applied_k then
                    perform close_dead_letter(i.dead_letter_id, i.generation, 'resolved', null, null, t);
                    perform tell_same_version(l, i.key, l.applied_k, i.source, i.event_id, i.generation, i.content, t);
                    verdict := 'duplicate'; return next; continue;
                end if;
                if i.key < l.desired_k then
                    perform keep_envelope(l.id, l.tenant, i.key, i.source, i.event_id, i.generation, p_bodies[i.idx + 1], i.properties, i.headers);
                    perform close_dead_letter(i.dead_letter_id, i.generation, 'overtaken', null, 'superseded by ' || key_event(l.desired_k), t);
                    perform tell_same_version(l, i.key, l.desired_k, i.source, i.event_id, i.generation, i.content, t);
                    verdict := 'superseded'; return next; continue;
                end if;
            else
                -- A request has no version by which an end could close its dead letter: who takes it up closes it.
                perform close_dead_letter(i.dead_letter_id, i.generation, 'resolved', null, null, t);
            end if;
            n := i.unsettled + own::int;
            if n >= 3 and not (own and live) then
                if i.key is null then
                    -- A resolve or re-check that kills: it stops, and the link says so to a person.
                    update link set state = 'conflict', conflict_cause = 'recheck_failed',
                        last_error = 'a re-check of this record ended its process three times', recheck_at = null, claim = null,
                        lease_token = null, lease_until = null, updated_at = t where id = l.id;
                    delete from unsettled_claim where link_id = l.id and source = i.source and event_id = i.counted_as;
                    verdict := 'stale'; return next; continue;
                end if;
                insert into held (worker, tenant, target_system, connection_id, reason, detail, k, source, event_id, generation, type,
                    subject, body, properties, headers, link_id, held_at)
                values (p_worker, i.tenant, i.target_system, i.connection_id, 'poison',
                    'three processes ended while they handled this event', i.key, i.source, i.event_id, i.generation, i.type,
                    i.subject, p_bodies[i.idx + 1], i.properties, fresh_headers(i.headers) || jsonb_build_object('x-generation', i.generation),
                    l.id, t)
                on conflict (worker, tenant, source, event_id, connection_id, facet) where link_key is null
                    do update set generation = excluded.generation, k = excluded.k, body = excluded.body, held_at = excluded.held_at;
                delete from unsettled_claim where link_id = l.id and source = i.source and event_id = i.counted_as;
                update link set claim = null where id = l.id and own;
                perform close_dead_letter(i.dead_letter_id, i.generation, 'resolved', 'poison', null, t);
                perform fall_back(l.id, i.key, p_queue);
                insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
                values (l.id, l.tenant, t, 'held', i.key, i.source, i.event_id, i.generation, '{"reason": "poison"}');
                verdict := 'held'; return next; continue;
            end if;
            if i.key > l.desired_k then
                perform tell_same_version(l, i.key, l.desired_k, i.source, i.event_id, i.generation, i.content, t);
            end if;
            if l.state = 'conflict' and l.conflict_cause = 'key_taken' and i.key is not null and i.taken is null then
                update link set state = case when target_id is null then 'pending' else 'linked' end, conflict_cause = null,
                    last_error = null, updated_at = t where id = l.id returning * into l;
            end if;
            -- The one conflict that a look can end.
            looks := l.state = 'conflict' and l.conflict_cause = 'gone' and i.key is null and i.claim_as = 'recheck';
            named := case when i.refs is not null then found_references(l, i.refs) end;
            if (l.state = 'conflict' and not looks) or live or (n = 2 and not p_exclusive) or named ? 'lacks' then
                update link set desired_k = i.key, desired_content = i.content, updated_at = t
                    where id = l.id and i.key is not null and desired_k is distinct from i.key;
                if l.state = 'conflict' and not looks then
                    verdict := case when i.key is null then 'stale' else 'conflict' end;
                    detail := jsonb_build_object('reason', l.last_error, 'key', i.taken);
                elsif named ? 'lacks' then
                    verdict := 'lacks'; detail := named;
                elsif live then
                    verdict := 'busy';
                    detail := jsonb_build_object('left_ms', ceil(extract(epoch from l.lease_until - t) * 1000)::bigint);
                else
                    verdict := 'exclusive';
                end if;
                return next; continue;
            end if;
            if (l.claim).token is not null then
                insert into unsettled_claim (token, tenant, link_id, source, event_id, generation, taken_over_at)
                values ((l.claim).token, l.tenant, l.id, (l.claim).source, (l.claim).event, (l.claim).generation, t)
                on conflict do nothing;
            end if;
            if i.key is null then
                detail := detail || jsonb_build_object(
                    'keys', (select coalesce(jsonb_agg(natural_key order by natural_key), '[]') from natural_key_claim where link_id = l.id));
            end if;
            if i.key is null or l.target_id is null then
                detail := detail || abandoned_effects(l, t);
            end if;
            if named is not null then
                detail := detail || named;
            end if;
            if i.later then
                -- Whatever became of it: a repeat carries the same text, made anew it would be another one.
                detail := detail || jsonb_build_object('earlier', (select effect_json(e) from effect e where e.link_id = l.id
                    and e.source = i.source and e.event_id = i.event_id and e.operation in ('create', 'update')
                    order by e.created_at desc, e.id desc limit 1));
            end if;
            grants := grants || (i.idx, l.id, (i.counted_as, i.source, i.generation, i.key, i.token)::running_claim, i.content, i.open,
                detail)::claim_grant;
            if i.wants_keys then
                wants := wants || (i.idx, l.id, i.keys)::wanted_keys;
            end if;
        end loop;
        if grants <> '{}' then
            return query
                with u as (
                    update link r set desired_k = coalesce((g.claim).k, r.desired_k),
                        desired_content = case when (g.claim).k is null then r.desired_content else g.content end,
                        lease_token = (g.claim).token, lease_until = t + p_lease, claim = g.claim, updated_at = t
                    from unnest(grants) as g
                    where r.id = g.link returning g.idx, g.open, g.more, r as now)
                select u.idx, 'granted', jsonb_build_object('link', link_json(u.now), 'open', u.open, 'now', t) || u.more from u;
        end if;
        exit when later = '{}';
        todo := later;
    end loop;
    if wants <> '{}' then
        -- Natural keys that the link does not own yet: in one order for everybody, after all links are locked.
        insert into natural_key_claim (tenant, connection_id, kind, natural_key, link_id, claimed_at)
            select o.tenant, o.connection_id, o.kind, key, o.id, t
            from unnest(wants) as w cross join jsonb_array_elements_text(w.keys) key join link o on o.id = w.link
            order by key, o.id on conflict do nothing;
        return query
            select w.idx, 'key_taken', jsonb_build_object('taken', jsonb_build_object('key', key, 'link', c.link_id, 'record', o.source_id))
            from unnest(wants) as w cross join jsonb_array_elements_text(w.keys) key
            join link m on m.id = w.link
            join natural_key_claim c on c.tenant = m.tenant and c.connection_id = m.connection_id and c.kind = m.kind
                and c.natural_key = key
            join link o on o.id = c.link_id
            where c.link_id <> w.link order by key, w.link;
    end if;
end $$;
