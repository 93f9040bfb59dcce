-- Links and effects as the callers read them.

create or replace function link_json(l link) returns jsonb language sql stable as $$
    select jsonb_build_object('id', l.id, 'tenant', l.tenant, 'kind', l.kind, 'source_system', l.source_system,
        'source_account', l.source_account, 'source_id', l.source_id, 'target_system', l.target_system,
        'connection_id', l.connection_id, 'target_id', l.target_id, 'state', l.state,
        'desired_k', encode(l.desired_k, 'hex'), 'applied_k', encode(l.applied_k, 'hex'), 'base', l.base,
        'target_parts', l.target_parts, 'lease_token', l.lease_token, 'lease_until', l.lease_until,
        'recheck_step', l.recheck_step, 'former_target_id', l.former_target_id, 'written_at', l.written_at,
        'missing_since', l.missing_since, 'conflict_cause', l.conflict_cause)
$$;

create or replace function effect_json(e effect) returns jsonb language sql stable as $$
    select case when e.id is null then null else jsonb_build_object('id', e.id, 'link_id', e.link_id, 'source', e.source,
        'event_id', e.event_id, 'generation', e.generation, 'k', encode(e.k, 'hex'), 'operation', e.operation,
        'state', e.state, 'last', e.last, 'request', e.request, 'target_id', e.target_id, 'sent_at', e.sent_at,
        'settle_at', e.settle_at) end
$$;

create or replace function open_effect(p_link bigint) returns jsonb language sql volatile as $$
    select effect_json(e) from effect e where link_id = p_link and state in ('sent', 'unknown')
$$;

-- Calls that were given up or refused although they left: the newest, oldest first, and which keys of theirs are another link's
-- by now. A create counts until something is linked, however long ago it was.
create or replace function abandoned_effects(l link, t timestamptz) returns jsonb language plpgsql volatile as $$
declare effects jsonb;
begin
    select jsonb_agg(effect_json(e) order by e.sent_at, e.id) into effects from (
        select * from effect where link_id = l.id and state in ('abandoned', 'failed')
            and (resolved_at > t - interval '2 days' or (operation = 'create' and l.target_id is null))
        order by sent_at desc, id desc limit 32) e;
    if effects is null then
        return '{}';
    end if;
    return jsonb_build_object('abandoned', effects, 'keys_of_others', (
        select coalesce(jsonb_agg(distinct c.natural_key), '[]')
        from jsonb_array_elements(effects) x, jsonb_array_elements_text(coalesce(x -> 'request' -> 'keys', '[]'::jsonb)) key
        join natural_key_claim c on c.tenant = l.tenant and c.connection_id = l.connection_id and c.kind = l.kind
            and c.natural_key = key and c.link_id <> l.id));
end $$;
