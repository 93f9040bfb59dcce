-- The links that a batch names, by id or by key: those that are missing are made in the order of their keys (p_make) and belong to
-- p_worker, or to the worker that the item names,
-- then all are locked in the order of their ids. Every function locks in this order, and takes other rows only after it,
-- so batches wait for each other and never in a circle.
create or replace function lock_links(p_items jsonb, p_make boolean, p_worker text default null) returns void language plpgsql volatile as $$
declare ids bigint[]; missing boolean;
begin
    for turn in 1..2 loop
        -- `offset 0`: row by row through the indexes, whatever the planner thinks of the table's size
        select array_agg(named.id), bool_or(named.id is null and x.link_id is null and x.k is not null and x.connection_id is not null)
        into ids, missing
        from jsonb_populate_recordset(null::link_name, p_items) as x
        left join lateral (
            select l.id from link l where l.id = x.link_id and l.tenant = x.tenant
            union all
            select l.id from link l where x.link_id is null and x.k is not null and l.tenant = x.tenant and l.kind = x.kind
                and l.source_system = x.source_system and l.source_account = x.source_account and l.source_id = x.source_id
                and l.target_system = x.target_system and (x.connection_id is null or l.connection_id = x.connection_id)
            offset 0) named on true;
        exit when not p_make or turn = 2 or missing is not true;
        insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id, worker, created_at,
            updated_at)
        select distinct tenant, kind, source_system, source_account, source_id, target_system, connection_id, coalesce(p_worker, x.worker), t, t
        from jsonb_populate_recordset(null::link_name, p_items) as x, kurir_now() t
        where link_id is null and k is not null and connection_id is not null
            and not exists (select 1 from link l where l.tenant = x.tenant and l.kind = x.kind
                and l.source_system = x.source_system and l.source_account = x.source_account and l.source_id = x.source_id
                and l.target_system = x.target_system and l.connection_id = x.connection_id)
        order by tenant, kind, source_system, source_account, source_id, target_system, connection_id
        on conflict do nothing;
    end loop;
    perform 1 from link where id = any (ids) order by id for update;
end $$;
