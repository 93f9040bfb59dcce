-- Complete: an effect is confirmed, and the link moves by its share. p_items: array of complete_item.
-- Verdicts: ended (confirmed, and the event with it: no detail) | confirmed | elsewhere (somebody else resolved it); these two with
-- the link as it is now.
create or replace function complete_effects(p_items jsonb, p_outcomes text) returns table (idx int, verdict text, detail jsonb) language plpgsql volatile
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off as $$
declare i record; l link; e effect; t timestamptz; todo int[]; later int[];
begin
    perform 1 from link where id = any (array(select (x ->> 'link')::bigint from jsonb_array_elements(p_items) x)) order by id for update;
    -- Usually once: a second item of one link, or for one target, sees in the next turn what the first one did.
    loop
        t := kurir_now();
        later := '{}';
        for i in
            with x as materialized (
                select x.*, row_number() over (partition by x.link order by x.idx) > 1
                    or (x.target_id is not null and row_number() over (partition by x.target_id order by x.link, x.idx) > 1) as waits
                from jsonb_populate_recordset(null::complete_item, p_items) as x
                where todo is null or x.idx = any (todo)),
            done as (
                update effect f set state = 'confirmed', resolved_at = t, target_id = coalesce(x.target_id, f.target_id)
                from x where f.id = x.effect and not x.waits
                    -- `case`: else all open effects would be read through their index
                    and case f.state when 'sent' then true when 'unknown' then true else false end
                returning f.id, f.operation, f.k, f.last, f.source, f.event_id, f.generation, f.request -> 'refers' as refers),
            seen as materialized (
                select x.*, done.operation = 'delete' as gone, done.k, done.last, done.refers,
                    done.k is not null and done.operation in ('create', 'update') as carries, done.source, done.event_id, done.generation,
                    r.tenant, r.state as was, r.target_id as had, (
                    select o.id from link o where (coalesce(x.target_id, r.target_id) is distinct from r.target_id or r.state = 'alias')
                        and o.tenant = r.tenant and o.target_system = r.target_system and o.connection_id = r.connection_id
                        and o.kind = r.kind and o.target_id = coalesce(x.target_id, r.target_id) and o.id <> r.id
                        and o.state <> 'alias') as other
                from done join x on x.effect = done.id
                cross join lateral (select * from link where id = x.link offset 0) r),
            moved as (
                update link r set target_id = case when seen.gone then null else coalesce(seen.target_id, r.target_id) end,
                    former_target_id = case when seen.gone then coalesce(r.target_id, r.former_target_id) end,
                    state = case when r.state = 'conflict' then r.state when seen.gone then 'deleted' else 'linked' end,
                    base = case when seen.gone then '{}' else seen.base end,
                    target_parts = case when seen.gone then '{}' else seen.parts end,
                    -- What carries the content says what it names; a part, or what a re-check writes back, says nothing of it.
                    refers = case when seen.gone then '[]' when seen.carries then coalesce(seen.refers, '[]') else r.refers end,
                    applied_k = case when seen.last then greatest(r.applied_k, seen.k) else r.applied_k end,
                    lease_token = case when seen.last and not seen.keep_lease and r.lease_token = seen.token then null else r.lease_token end,
                    lease_until = case when seen.last and not seen.keep_lease and r.lease_token = seen.token then null else r.lease_until end,
                    claim = case when seen.last and not seen.keep_lease and (r.claim).token = seen.token then null else r.claim end,
                    written_at = t, missing_since = null, last_error = null, updated_at = t
                from seen where r.id = seen.link and seen.other is null),
            told as (
                insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, target_id, detail)
                select link, tenant, t, what, k, source, event_id, generation,
                    case when other is not null then coalesce(had, target_id) when gone then target_id else coalesce(target_id, had) end,
                    coalesce(note, '{}')
                from seen),
            outcomes as (
                insert into outbox (tenant, exchange, routing_key, body, properties, headers, created_at, next_try_at)
                select tenant, p_outcomes, outcome ->> 'routing_key', convert_to(outcome ->> 'body', 'utf8'), outcome -> 'properties',
                    outcome -> 'headers', t, t
                from seen where other is null and outcome is not null)
            select x.idx, x.effect, x.link, x.token, x.target_id, x.keys, x.keep_lease, x.answered, x.waits, seen.was, seen.other,
                seen.effect is not null as confirmed, seen.gone, seen.k, seen.last, seen.source, seen.event_id,
                -- Rarely anything; what exactly is said where it is removed.
                coalesce((select true from link_event where link_id = x.link limit 1),
                    (select true from link_history where link_id = x.link and what = 'kept_out' and body is not null limit 1),
                    (select true from dead_letter where link_id = x.link limit 1),
                    (select true from held where link_id = x.link limit 1),
                    (select true from unsettled_claim where link_id = x.link limit 1)) as covers,
                (select true from natural_key_claim where link_id = x.link and (x.keys is null or not x.keys ? natural_key)
                    limit 1) as frees_keys
            from x left join seen on seen.effect = x.effect
            order by x.link
        loop
            idx := i.idx;
            if i.waits then
                later := later || i.idx;
                continue;
            end if;
            if i.confirmed then
                if i.other is not null then
                    update link set state = 'conflict', conflict_cause = 'record_taken', updated_at = t,
                        last_error = 'the partner''s record ' || i.target_id || ' already belongs to link ' || i.other
                        where id = i.link;
                elsif i.last then
                    if i.covers then
                        if i.k is not null then
                            perform close_covered(i.link, i.source, i.event_id);
                        end if;
                        delete from unsettled_claim where token = i.token;
                    end if;
                    if i.frees_keys and (i.gone or i.keys is not null) then
                        delete from natural_key_claim where link_id = i.link and (i.gone or not i.keys ? natural_key);
                    end if;
                    if not i.keep_lease and i.was <> 'conflict' then
                        verdict := 'ended'; detail := null; return next; continue;
                    end if;
                end if;
                verdict := 'confirmed';
            else
                verdict := 'elsewhere';
                select * into e from effect where id = i.effect;
                select * into l from link where id = i.link;
                -- An answer to a call that was given up; a look-up may have seen the record of a later call.
                if i.answered and e.state = 'abandoned' and e.late_at is null then
                    update effect set late_at = t, target_id = coalesce(i.target_id, target_id) where id = i.effect;
                    if e.operation = 'create' and l.target_id is distinct from i.target_id then
                        update link set state = 'conflict', conflict_cause = 'late_create', updated_at = t,
                            last_error = 'a create that was given up has been answered: two records may exist, ' || coalesce(l.target_id, 'none linked')
                                || ' and ' || coalesce(i.target_id, 'unknown')
                            where id = l.id;
                    else
                        update link set recheck_at = t, recheck_step = 0 where id = l.id;
                    end if;
                    insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, target_id)
                    values (l.id, l.tenant, t, 'late_answer', e.k, e.source, e.event_id, e.generation, i.target_id);
                end if;
            end if;
            select * into l from link where id = i.link;
            detail := jsonb_build_object('link', link_json(l), 'open', open_effect(l.id)); return next;
        end loop;
        exit when later = '{}';
        todo := later;
    end loop;
end $$;
