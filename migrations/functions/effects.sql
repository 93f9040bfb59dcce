-- Reserve: the effect row before its call. p_items: array of reserve_item. Verdicts: sent | open (the
-- link has an open effect) | lost (the lease is somebody else's) | moved (a link that the call names has another target now).
create or replace function reserve_effects(p_items jsonb) returns table (idx int, verdict text, sent_at timestamptz, settle_at timestamptz)
    language plpgsql volatile as $$
declare t timestamptz; named bigint[];
begin
    -- Links that the calls name are locked too, in one order with all others: whoever moves one waits until the row is written.
    named := array(select (r ->> 'link')::bigint from jsonb_array_elements(p_items) x cross join jsonb_array_elements(x -> 'refs') r
        where x ? 'refs');
    -- Waits for a concurrent claim; the next statement sees its token.
    perform 1 from link where id = any (named || array(select (x ->> 'link')::bigint from jsonb_array_elements(p_items) x))
        and (lease_token = any (array(select (x ->> 'token')::uuid from jsonb_array_elements(p_items) x)) or id = any (named))
        order by id for share;
    t := kurir_now();
    return query
        with x as materialized (
            select x.*, l.id as mine, l.tenant, x.refs is null or references_hold(x.refs) as holds
            from jsonb_populate_recordset(null::reserve_item, p_items) as x
            left join lateral (select own.id, own.tenant from link own where own.id = x.link and own.lease_token = x.token offset 0) l on true),
        made as (
            insert into effect as e (id, link_id, tenant, source, event_id, generation, k, operation, state, last, request, target_id, sent_at, settle_at, created_at)
            select x.effect, x.link, x.tenant, x.source, x.event_id, x.generation, decode(x.k, 'hex'), x.operation,
                'sent', x.last, x.request, x.target_id, t, t + x.settle_ms * interval '1 ms', t
            from x where x.mine is not null and x.holds order by x.link
            on conflict (link_id) where state in ('sent', 'unknown') do nothing
            returning e.id, e.state, e.sent_at, e.settle_at)
        select x.idx, coalesce(made.state, case when x.mine is null then 'lost' when not x.holds then 'moved' else 'open' end), made.sent_at, made.settle_at
        from x left join made on made.id = x.effect;
end $$;

-- The other ends of an effect. p_to: failed, unknown, abandoned (the look-up began at p_begun).
-- p_recheck_ms: look once more at the link after that time. Returns the state it has now.
create or replace function resolve_effect(p_effect uuid, p_link bigint, p_to text, p_begun timestamptz, p_outcome text, p_recheck_ms bigint)
    returns jsonb language plpgsql volatile as $$
declare e effect; l link; t timestamptz; moved boolean;
begin
    select * into l from link where id = p_link for update;
    t := kurir_now();
    update effect set state = p_to, outcome = p_outcome, resolved_at = case when p_to = 'unknown' then null else t end
        where id = p_effect and case p_to
            when 'unknown' then state = 'sent'
            when 'failed' then state in ('sent', 'unknown')
            when 'abandoned' then state in ('sent', 'unknown') and p_begun >= settle_at
            else false end
        returning * into e;
    moved := found;
    if moved and p_recheck_ms is not null then
        update link set recheck_at = t + p_recheck_ms * interval '1 ms', recheck_step = 0 where id = p_link returning * into l;
    end if;
    if moved and p_to in ('failed', 'abandoned') then
        insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, target_id, detail)
        values (l.id, l.tenant, t, p_to, e.k, e.source, e.event_id, e.generation, l.target_id,
            jsonb_build_object('operation', e.operation, 'outcome', p_outcome));
    end if;
    return jsonb_build_object('moved', moved, 'link', link_json(l), 'open', open_effect(p_link));
end $$;
