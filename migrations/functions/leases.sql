-- Gives leases back by token, in order: nothing else of the link changes. The claim came back, so it is no death. Who knows the
-- link of a token says it: tokens have no index, because each claim and each completion would have to keep it up to date.
create or replace function release_links(p_items jsonb) returns void language plpgsql volatile as $$
declare r record;
begin
    for r in
        select l.id, x.token, x.error, l.claim
        from jsonb_populate_recordset(null::lease_item, p_items) as x
        join lateral (
            select * from link where id = x.link and (lease_token = x.token or (claim).token = x.token)
            union all
            select * from link where x.link is null and (lease_token = x.token or (claim).token = x.token)) l on true
        order by l.id
    loop
        update link set
            lease_until = case when lease_token = r.token then null else lease_until end,
            last_error = case when lease_token = r.token and state <> 'conflict' then coalesce(r.error, last_error) else last_error end,
            lease_token = case when lease_token = r.token then null else lease_token end,
            claim = case when (claim).token = r.token then null else claim end,
            updated_at = kurir_now()
            where id = r.id;
        if (r.claim).generation > 0 and (r.claim).token = r.token and r.error is not null then
            -- A replay that did not succeed at once.
            update replay_item i set state = 'retrying', at = kurir_now() from dead_letter d
                where d.link_id = r.id and d.source = (r.claim).source and d.event_id = (r.claim).event and d.state = 'replaying'
                  and d.generation = (r.claim).generation and i.dead_id = d.id and i.generation = d.generation
                  and i.state in ('sent', 'retrying');
        end if;
    end loop;
    delete from unsettled_claim where token = any (array(select x.token from jsonb_populate_recordset(null::lease_item, p_items) as x));
end $$;

-- Prolongs those that are still theirs; answers how many.
create or replace function renew_links(p_items jsonb, p_lease interval) returns int language plpgsql volatile as $$
declare n int; tokens uuid[]; nameless boolean;
begin
    select array_agg(x.token), bool_or(x.link is null) into tokens, nameless from jsonb_populate_recordset(null::lease_item, p_items) as x;
    with found as (
        select l.id from jsonb_populate_recordset(null::lease_item, p_items) as x join link l on l.id = x.link where l.lease_token = x.token
        union
        select id from link where nameless and lease_token = any (tokens)),
    mine as (select id from link where id in (select id from found) and lease_token = any (tokens) order by id for update)
    update link set lease_until = kurir_now() + p_lease from mine where link.id = mine.id;
    get diagnostics n = row_count;
    return n;
end $$;
