-- What a link's content names of other links.

-- The partner's record that others may name as this link's; null while there is none to name.
create or replace function named_target(l link) returns text language sql immutable as $$
    select case when l.state in ('linked', 'alias') then l.target_id end
$$;

-- The links that p_refs (an array of reference) names, beside the link l: {found_references: [...]} where each has a target, else
-- {lacks: the first that has none}. In the order of the array.
create or replace function found_references(l link, p_refs jsonb) returns jsonb language sql stable as $$
    select case when bool_and(target is not null) then jsonb_build_object('found_references', jsonb_agg(named
            || jsonb_build_object('link', link, 'target_id', target) order by place))
        else jsonb_build_object('lacks', (jsonb_agg(named order by place) filter (where target is null)) -> 0) end
    from (
        select x.place, x.named, o.id as link, named_target(o) as target
        from jsonb_array_elements(p_refs) with ordinality as x(named, place)
        cross join lateral jsonb_populate_record(null::reference, x.named) r
        left join link o on o.tenant = l.tenant and o.kind = r.kind and o.source_system = r.source_system
            and o.source_account = r.source_account and o.source_id = r.source_id and o.target_system = l.target_system
            and o.connection_id = l.connection_id and o.id <> l.id) found
$$;

-- Whether each link of p_refs (array of {link, target_id}) still has that target. The caller has locked them.
create or replace function references_hold(p_refs jsonb) returns boolean language sql volatile as $$
    select not exists (
        select 1 from jsonb_array_elements(p_refs) x
        left join link o on o.id = (x ->> 'link')::bigint
        where named_target(o) is distinct from x ->> 'target_id')
$$;
