-- Longest pauses: a cooldown that was not named by the partner, an open circuit.
create or replace function longest_cooldown_ms() returns bigint language sql immutable as $$ select 3600000::bigint $$;
create or replace function longest_open_ms() returns bigint language sql immutable as $$ select 600000::bigint $$;

-- One holder's share of what may be in flight. Whoever got something keeps it while nobody goes without; else all get
-- equal parts, and where there are fewer than holders, who has had one for a second passes it on. What is under way ends
-- first: it stays in the account, and nothing new begins.
create or replace function share_of(p_max int, p_want int, p_taken int, p_wanting int, p_starving boolean, p_long boolean)
    returns int language sql immutable as $$
    select greatest(0, least(p_want, p_max - p_taken,
        case when not p_starving then p_want
             when p_long and p_max <= p_wanting then 0
             else ceil(p_max::numeric / (p_wanting + 1))::int end))
$$;

-- A process asks for its connections, at most a second of permits ahead. p_asks: array of budget_ask.
-- A connection that does not exist, or is another tenant's, has no answer.
create or replace function lease_budgets(p_holder uuid, p_asks jsonb, p_live interval) returns table (connection uuid, granted int, wait_ms bigint,
    slots int, searches int, cooldown_ms bigint, cooldown_reason text, backlog boolean, circuits jsonb, rivals int)
    language plpgsql volatile as $$
declare
    a record; b budget; h budget_holder; w record; o record; t timestamptz; now_us bigint; tat bigint; free bigint; wait bigint;
    arrivals jsonb; item jsonb; op text; can text[];
begin
    insert into budget (connection_id, tenant, updated_at)
        select c.id, c.tenant, kurir_now() from connection c join jsonb_populate_recordset(null::budget_ask, p_asks) as x
            on c.id = x.connection and c.tenant = x.tenant
        where not exists (select 1 from budget where connection_id = c.id) order by c.id on conflict do nothing;
    for a in
        select * from jsonb_populate_recordset(null::budget_ask, p_asks) as x
        order by x.connection
    loop
        select * into b from budget where connection_id = a.connection and tenant = a.tenant for update;
        if not found then
            continue;
        end if;
        t := kurir_now();
        now_us := (extract(epoch from t) * 1000000)::bigint;
        -- What the process learned.
        if a.cool is not null then
            -- Twice as long as the last one, if that ended only so long ago; a process that heard it later adds nothing.
            if b.cooldown_until is null or b.cooldown_until <= t then
                b.cooldown_ms := case
                    when (a.cool ->> 'named')::boolean or b.cooldown_until is null
                        or t - b.cooldown_until > b.cooldown_ms * interval '1 ms'
                        or coalesce(b.fine_at, '-infinity') > b.cooldown_until then (a.cool ->> 'ms')::bigint
                    else greatest((a.cool ->> 'ms')::bigint, least(b.cooldown_ms * 2, longest_cooldown_ms())) end;
                b.cooldown_until := t + b.cooldown_ms * interval '1 ms';
                b.cooldowns := b.cooldowns + 1;
            elsif (a.cool ->> 'named')::boolean then
                b.cooldown_until := greatest(b.cooldown_until, t + (a.cool ->> 'ms')::bigint * interval '1 ms');
            end if;
            b.cooldown_reason := a.cool ->> 'reason';
        end if;
        if a.fine then
            b.fine_at := t;
        end if;
        for item in select * from jsonb_array_elements(a.opened) loop
            insert into circuit as c (connection_id, operation, open_until, open_ms, reason)
            values (a.connection, item ->> 'operation', t + (item ->> 'ms')::bigint * interval '1 ms', (item ->> 'ms')::bigint, item ->> 'reason')
            on conflict (connection_id, operation) do update set
                -- A half-open probe failed: longer. A process that noticed later adds nothing.
                open_ms = case when c.open_until > t then c.open_ms else least(c.open_ms * 2, longest_open_ms()) end,
                open_until = case when c.open_until > t then c.open_until
                    else t + least(c.open_ms * 2, longest_open_ms()) * interval '1 ms' end,
                probe_until = null, reason = excluded.reason;
        end loop;
        for op in select * from jsonb_array_elements_text(a.closed) loop
            delete from circuit where connection_id = a.connection and operation = op;
        end loop;
        can := '{}';
        for op in select * from jsonb_array_elements_text(a.probes) loop
            update circuit set probe_until = t + interval '60 seconds'
                where connection_id = a.connection and operation = op and open_until <= t
                  and (probe_until is null or probe_until <= t);
            if found then
                can := can || op;
            end if;
        end loop;
        -- Permits: each bucket must have them.
        arrivals := '{}'; free := a.want; wait := 0;
        for w in select * from jsonb_populate_recordset(null::bucket, a.buckets) as y loop
            tat := greatest(coalesce((b.arrival ->> w.per_ms::text)::bigint, 0) - a.back * w.gap_us, now_us);
            -- Settings that were made narrower, or a clock that went back, lock nobody out for longer than one filling.
            tat := least(tat, now_us + w.burst * w.gap_us);
            arrivals := arrivals || jsonb_build_object(w.per_ms::text, tat);
            free := least(free, (now_us + w.burst * w.gap_us - tat) / w.gap_us);
            wait := greatest(wait, tat + w.gap_us - now_us - w.burst * w.gap_us);
        end loop;
        if b.cooldown_until > t then
            free := 0;
            wait := greatest(wait, (extract(epoch from b.cooldown_until - t) * 1000000)::bigint);
        end if;
        granted := greatest(free, 0);
        for w in select * from jsonb_populate_recordset(null::bucket, a.buckets) as y loop
            arrivals := arrivals || jsonb_build_object(w.per_ms::text, (arrivals ->> w.per_ms::text)::bigint + granted * w.gap_us);
        end loop;
        -- Calls in flight.
        delete from budget_holder where connection_id = a.connection and until <= t;
        select * into h from budget_holder where connection_id = a.connection and holder = p_holder;
        select coalesce(sum(x.slots), 0)::int as slots, coalesce(sum(x.searches), 0)::int as searches,
               count(*) filter (where x.slots_wanted > 0)::int as wanting,
               count(*) filter (where x.searches_wanted > 0)::int as searching,
               coalesce(bool_or(x.slots_wanted > 0 and x.slots = 0), false) as starving,
               coalesce(bool_or(x.searches_wanted > 0 and x.searches = 0), false) as starving_searches
            into o from budget_holder x where x.connection_id = a.connection and x.holder <> p_holder;
        slots := share_of(a.in_flight, a.slots_want, o.slots, o.wanting, o.starving,
            coalesce(h.slots > 0 and t - h.since >= interval '1 second', false));
        searches := share_of(a.search_lane, a.searches_want, o.searches, o.searching, o.starving_searches,
            coalesce(h.searches > 0 and t - h.since >= interval '1 second', false));
        if a.slots_want > 0 or a.slots_used > 0 then
            insert into budget_holder as x values (a.connection, p_holder, greatest(slots, a.slots_used), a.slots_want,
                greatest(searches, a.searches_used), a.searches_want, t, t + p_live)
            on conflict (connection_id, holder) do update set slots = excluded.slots, slots_wanted = excluded.slots_wanted,
                searches = excluded.searches, searches_wanted = excluded.searches_wanted, until = excluded.until,
                since = case when x.slots = 0 and excluded.slots > 0 or t - x.since >= interval '1 second' and excluded.slots = 0
                    then t else x.since end;
        else
            delete from budget_holder where connection_id = a.connection and holder = p_holder;
        end if;
        update budget set arrival = arrivals, leased = budget.leased + granted,
            returned = budget.returned + a.back, asked = asked + 1, spec = a.spec, buckets = a.buckets, cost = a.cost,
            cooldown_until = b.cooldown_until, cooldown_ms = b.cooldown_ms, cooldown_reason = b.cooldown_reason,
            cooldowns = b.cooldowns, fine_at = b.fine_at, begun = least(budget.begun + a.begun, budget.released),
            begun_at = case when a.begun > 0 then t else budget.begun_at end, updated_at = t
            where budget.connection_id = a.connection;
        connection := a.connection;
        rivals := o.wanting;
        wait_ms := greatest(wait / 1000, 0);
        cooldown_ms := case when b.cooldown_until > t then ceil(extract(epoch from b.cooldown_until - t) * 1000)::bigint end;
        cooldown_reason := case when b.cooldown_until > t then b.cooldown_reason end;
        backlog := exists (select 1 from held where connection_id = a.connection and tenant = a.tenant
            and reason in ('budget', 'suspended', 'circuit'));
        select coalesce(jsonb_agg(jsonb_build_object('operation', c.operation, 'reason', c.reason, 'probe', c.operation = any (can),
            'taken', coalesce(c.probe_until > t, false) and not c.operation = any (can),
            'left_ms', greatest(0, ceil(extract(epoch from c.open_until - t) * 1000))::bigint) order by c.operation), '[]') into circuits
            from circuit c where c.connection_id = a.connection;
        return next;
    end loop;
end $$;

-- How many held events of a connection may go now: what its budget allows until they arrive, beyond those that are on
-- their way. After a cooldown or while a circuit is not closed, one at a time until a call succeeds. Locks the account;
-- the caller adds what it let go to `released` in the same transaction.
create or replace function release_allowance(p_tenant text, p_connection uuid) returns int language plpgsql volatile as $$
declare b budget; w record; t timestamptz; now_us bigint; underway bigint; free numeric; pace numeric; most bigint; in_flight int;
begin
    insert into budget (connection_id, tenant, updated_at) select id, tenant, kurir_now() from connection
        where id = p_connection and tenant = p_tenant on conflict do nothing;
    select * into b from budget where connection_id = p_connection and tenant = p_tenant for update;
    if not found then
        return 0;
    end if;
    t := kurir_now();
    now_us := (extract(epoch from t) * 1000000)::bigint;
    if b.released > b.begun and t - coalesce(b.begun_at, b.updated_at) > interval '10 seconds' then
        -- Those arrived at somebody who is gone. If they only wait in a long queue, those that follow them are far fewer than the
        -- budget allows in that time.
        update budget set begun = released, begun_at = t where connection_id = p_connection returning * into b;
    end if;
    underway := b.released - b.begun;
    if b.cooldown_until > t or exists (select 1 from circuit where connection_id = p_connection and open_until > t) then
        return 0;
    end if;
    if b.cooldown_until > coalesce(b.fine_at, '-infinity') or exists (select 1 from circuit where connection_id = p_connection) then
        return case when underway = 0 then 1 else 0 end;
    end if;
    in_flight := coalesce((b.spec ->> 'in_flight')::int, 1);
    if b.buckets = '[]' then
        return greatest(0, least(100, in_flight * 8) - underway);
    end if;
    free := null; pace := null;
    for w in select * from jsonb_populate_recordset(null::bucket, b.buckets) as y loop
        free := least(free, floor((now_us + w.burst * w.gap_us
            - greatest(coalesce((b.arrival ->> w.per_ms::text)::bigint, 0), now_us)) / w.gap_us::numeric));
        pace := least(pace, 1000000.0 / w.gap_us);
    end loop;
    -- More would wait in the workers' memory, and be in the way of other tenants' events there.
    most := greatest(2, ceil(pace * 1.5 / greatest(b.cost, 0.1)));
    return greatest(0, least(floor((free + pace) / greatest(b.cost, 0.1))::bigint, most) - underway);
end $$;
