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
                -- A canary failed: longer. A process that noticed later adds nothing.
                open_ms = case when c.open_until > t then c.open_ms else least(c.open_ms * 2, longest_open_ms()) end,
                open_until = case when c.open_until > t then c.open_until
                    else t + least(c.open_ms * 2, longest_open_ms()) * interval '1 ms' end,
                canary_until = null, reason = excluded.reason;
        end loop;
        for op in select * from jsonb_array_elements_text(a.closed) loop
            delete from circuit where connection_id = a.connection and operation = op;
        end loop;
        can := '{}';
        for op in select * from jsonb_array_elements_text(a.canaries) loop
            update circuit set canary_until = t + interval '60 seconds'
                where connection_id = a.connection and operation = op and open_until <= t
                  and (canary_until is null or canary_until <= t);
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
        select coalesce(jsonb_agg(jsonb_build_object('operation', c.operation, 'reason', c.reason, 'canary', c.operation = any (can),
            'taken', coalesce(c.canary_until > t, false) and not c.operation = any (can),
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
-- The ledger's transaction: the dead copy with its link. p_items: array of dead_item; p_bodies[idx + 1] is
-- the envelope. What could not be decoded has no tenant, source or key.
create or replace function bury(p_items jsonb, p_bodies bytea[]) returns table (idx int, verdict text) language plpgsql volatile as $$
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
        l := null;
        verdict := 'buried'; return next;
    end loop;
end $$;
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
create or replace function claim_links(p_worker text, p_queue text, p_items jsonb, p_bodies bytea[], p_lease interval, p_alone boolean)
    returns table (idx int, verdict text, detail jsonb) language plpgsql volatile
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off as $$
declare
    i record; l link; n int; own boolean; live boolean; looks boolean; t timestamptz; last_link bigint; letters uuid[]; todo int[]; later int[];
    grants claim_grant[]; wants wanted_keys[] := '{}';
begin
    perform lock_links(p_items, true);
    -- Usually once: what an earlier item of the batch may have changed is read anew in the next turn.
    loop
        t := kurir_now();
        last_link := null; letters := '{}'; later := '{}'; grants := '{}';
        for i in
            -- everything is read here, after the lock, in one statement for the whole batch
            with x as materialized (
                select x.*, decode(x.k, 'hex') as key, letter_of(x.headers, x.dead_id) as letter,
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
                    and generation = x.generation limit 1) as is_held,
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
            left join lateral (select state, generation, held_for from dead_letter where id = x.letter offset 0) d on true
            left join lateral (select effect_json(e) as open from effect e
                where e.link_id = r.id and e.state in ('sent', 'unknown') offset 0) e on true
            order by x.locked, x.key desc nulls last
        loop
            idx := i.idx;
            detail := '{}';
            -- Its link, its letter or its held row may be changed below by the item before.
            if i.locked = last_link or letters && array[i.letter, i.dead_id] then
                later := later || i.idx;
                last_link := i.locked;
                continue;
            end if;
            last_link := i.locked;
            letters := letters || array[i.letter, i.dead_id];
            l := i.link;
            if l.id is null then
                verdict := 'stale'; return next; continue;
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
                    -- It may have died before it had a link, or with another version: what is applied now closes its letter.
                    update dead_letter set link_id = l.id, k = i.key where id = i.letter and (link_id is null or k is distinct from i.key);
                end if;
                if i.is_held then
                    verdict := 'already_held'; return next; continue;
                end if;
                if i.key <= l.applied_k then
                    perform close_letter(i.letter, i.generation, 'resolved', null, null, t);
                    perform tell_same_version(l, i.key, l.applied_k, i.source, i.event_id, i.generation, i.content, t);
                    verdict := 'duplicate'; return next; continue;
                end if;
                if i.key < l.desired_k then
                    perform keep_envelope(l.id, l.tenant, i.key, i.source, i.event_id, i.generation, p_bodies[i.idx + 1], i.properties, i.headers);
                    perform close_letter(i.letter, i.generation, 'overtaken', null, 'superseded by ' || key_event(l.desired_k), t);
                    perform tell_same_version(l, i.key, l.desired_k, i.source, i.event_id, i.generation, i.content, t);
                    verdict := 'superseded'; return next; continue;
                end if;
            else
                -- A request has no version by which an end could close its letter: who takes it up closes it.
                perform close_letter(i.letter, i.generation, 'resolved', null, null, t);
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
                on conflict (worker, tenant, source, event_id, connection_id) where link_key is null
                    do update set generation = excluded.generation, k = excluded.k, body = excluded.body, held_at = excluded.held_at;
                delete from unsettled_claim where link_id = l.id and source = i.source and event_id = i.counted_as;
                update link set claim = null where id = l.id and own;
                perform close_letter(i.letter, i.generation, 'resolved', 'poison', null, t);
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
            if (l.state = 'conflict' and not looks) or live or (n = 2 and not p_alone) then
                update link set desired_k = i.key, desired_content = i.content, updated_at = t
                    where id = l.id and i.key is not null and desired_k is distinct from i.key;
                if l.state = 'conflict' and not looks then
                    verdict := case when i.key is null then 'stale' else 'conflict' end;
                    detail := jsonb_build_object('reason', l.last_error, 'key', i.taken);
                elsif live then
                    verdict := 'busy';
                    detail := jsonb_build_object('left_ms', ceil(extract(epoch from l.lease_until - t) * 1000)::bigint);
                else
                    verdict := 'alone';
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
                detail := detail || given_up(l, t);
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
-- The one clock of leases, settle times and waits. A test sets it with `set kurir.now = '…'`.
create or replace function kurir_now() returns timestamptz language sql volatile as $$
    select coalesce(nullif(current_setting('kurir.now', true), '')::timestamptz, clock_timestamp())
$$;
-- Complete: an effect is confirmed, and the link moves by its share. p_items: array of complete_item.
-- Verdicts: ended (confirmed, and the event with it: no detail) | confirmed | elsewhere (somebody else resolved it); these two with
-- the link as it is now.
create or replace function complete_effects(p_items jsonb) returns table (idx int, verdict text, detail jsonb) language plpgsql volatile
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
                returning f.id, f.operation, f.k, f.last, f.source, f.event_id, f.generation),
            seen as materialized (
                select x.*, done.operation = 'delete' as gone, done.k, done.last, done.source, done.event_id, done.generation,
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
                from seen)
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
-- Reserve: the effect row before its call. p_items: array of reserve_item. Verdicts: sent | open (the
-- link has an open effect) | lost (the lease is somebody else's).
create or replace function reserve_effects(p_items jsonb) returns table (idx int, verdict text, sent_at timestamptz, settle_at timestamptz)
    language plpgsql volatile as $$
declare t timestamptz;
begin
    -- Waits for a concurrent claim; the next statement sees its token.
    perform 1 from link where id = any (array(select (x ->> 'link')::bigint from jsonb_array_elements(p_items) x))
        and lease_token = any (array(select (x ->> 'token')::uuid from jsonb_array_elements(p_items) x)) order by id for share;
    t := kurir_now();
    return query
        with x as materialized (
            select x.*, l.id as mine, l.tenant
            from jsonb_populate_recordset(null::reserve_item, p_items) as x
            left join lateral (select own.id, own.tenant from link own where own.id = x.link and own.lease_token = x.token offset 0) l on true),
        made as (
            insert into effect as e (id, link_id, tenant, source, event_id, generation, k, operation, state, last, request, target_id, sent_at, settle_at, created_at)
            select x.effect, x.link, x.tenant, x.source, x.event_id, x.generation, decode(x.k, 'hex'), x.operation,
                'sent', x.last, x.request, x.target_id, t, t + x.settle_ms * interval '1 ms', t
            from x where x.mine is not null order by x.link
            on conflict (link_id) where state in ('sent', 'unknown') do nothing
            returning e.id, e.state, e.sent_at, e.settle_at)
        select x.idx, coalesce(made.state, case when x.mine is null then 'lost' else 'open' end), made.sent_at, made.settle_at
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
-- Envelopes of superseded events: kept, and fallen back to.

-- Our own headers that describe one way through the queues; a new way begins without them.
create or replace function fresh_headers(p_headers jsonb) returns jsonb language sql immutable as $$
    select coalesce(p_headers, '{}'::jsonb) - array['x-attempt', 'x-waits', 'x-due', 'x-first-received', 'x-history',
        'x-link', 'x-permit', 'x-dead-class', 'x-dead-fingerprint', 'x-dead-message', 'x-dead-at']
$$;

create or replace function kept_limit() returns int language sql immutable as $$ select 16 $$;

-- Keeps a superseded envelope. Above the cap the lowest goes to history, where the fall-back still finds it.
create or replace function keep_envelope(p_link bigint, p_tenant text, p_k bytea, p_source text, p_event text, p_generation int,
    p_body bytea, p_properties jsonb, p_headers jsonb) returns void language plpgsql volatile as $$
begin
    insert into link_event (link_id, k, source, event_id, generation, body, properties, headers, kept_at)
    values (p_link, p_k, p_source, p_event, p_generation, p_body, p_properties, p_headers, kurir_now())
    on conflict do nothing;
    with lowest as (
        delete from link_event where link_id = p_link and k = (select k from link_event where link_id = p_link order by k limit 1)
            and (select count(*) from link_event where link_id = p_link) > kept_limit()
        returning *)
    insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, body, properties, headers)
    select link_id, p_tenant, kurir_now(), 'kept_out', k, source, event_id, generation, body, properties, headers from lowest;
end $$;

-- The event with key p_k is dead, discarded or held for a person: the link wants the highest older content again,
-- which goes straight to its worker's queue. The caller has locked the link. Returns the key fallen back to.
create or replace function fall_back(p_link bigint, p_k bytea, p_queue text) returns bytea language plpgsql volatile as $$
declare l link; kept record;
begin
    select * into l from link where id = p_link;
    delete from link_event where link_id = p_link and k = p_k;
    update link_history set body = null where link_id = p_link and what = 'kept_out' and k = p_k;
    if l.desired_k > p_k then
        return null;
    end if;
    -- Below or nothing: p_k was held before it was ever claimed, and what gave way to it is kept here and nowhere else.
    select * into kept from (
        select k, body, properties, headers, generation from link_event where link_id = p_link
        union all
        select k, body, properties, headers, generation from link_history
            where link_id = p_link and what = 'kept_out' and body is not null) older
        where k > coalesce(l.applied_k, ''::bytea) and k < p_k order by k desc limit 1;
    update link set desired_k = case when l.desired_k = p_k then coalesce(kept.k, l.applied_k) else greatest(l.desired_k, kept.k) end,
        desired_content = null,
        updated_at = kurir_now() where id = p_link;
    if kept.k is not null then
        insert into outbox (tenant, exchange, routing_key, body, properties, headers, created_at, next_try_at)
        values (l.tenant, '', p_queue, kept.body, kept.properties,
            fresh_headers(kept.headers) || jsonb_build_object('x-generation', kept.generation), kurir_now(), kurir_now());
    elsif l.desired_k = p_k and l.target_id is null then
        -- Nothing living is left of this record and nothing was made: its keys are free for others. A frozen owner
        -- is fenced off first.
        if not exists (select 1 from effect where link_id = p_link and state in ('sent', 'unknown')) then
            update link set lease_token = null, lease_until = null where id = p_link;
            delete from natural_key_claim where link_id = p_link;
        end if;
    end if;
    return kept.k;
end $$;
-- Endings without a call, and what a look at the partner taught: token mine and (unless p_despite_open) no open effect.
-- p_end: unchanged | deleted | adopted | noted | missed | seen | conflict | resolved | rechecked. adopted, noted, missed and seen
-- keep the lease. missed: a look that began at p_begun does not show the record. seen: one does, so what was concluded from
-- such looks is over. p_cause: of a conflict.
create or replace function finish_link(p_link bigint, p_token uuid, p_end text, p_k bytea, p_source text, p_event text, p_generation int,
    p_target text, p_base jsonb, p_parts jsonb, p_keys jsonb, p_note jsonb, p_despite_open boolean,
    p_recheck_ms bigint, p_recheck_step int, p_cause text, p_begun timestamptz) returns jsonb language plpgsql volatile as $$
declare l link; t timestamptz; other bigint; old_target text; over boolean;
begin
    select * into l from link where id = p_link for update;
    t := kurir_now();
    if l.lease_token is distinct from p_token or (not p_despite_open and open_effect(p_link) is not null)
        -- A late answer may have closed the effect and linked its own record while we looked.
        or (p_end = 'adopted' and l.target_id is not null)
        -- Written meanwhile, so it was there: the looks before that say nothing any more.
        or (p_end = 'missed' and l.written_at > p_begun)
        or (p_end = 'conflict' and p_cause = 'gone' and l.missing_since is null) then
        return jsonb_build_object('guarded', true, 'link', link_json(l), 'open', open_effect(p_link));
    end if;
    old_target := l.target_id;
    if p_end = 'adopted' then
        select id into other from link where tenant = l.tenant and target_system = l.target_system and connection_id = l.connection_id
            and kind = l.kind and target_id = p_target and id <> l.id and state <> 'alias';
        if found then
            return jsonb_build_object('guarded', false, 'taken', other, 'link', link_json(l), 'open', open_effect(p_link));
        end if;
        update link set target_id = p_target, former_target_id = null, state = 'linked', base = p_base, target_parts = p_parts,
            written_at = t, missing_since = null, updated_at = t where id = p_link returning * into l;
    elsif p_end = 'noted' then
        update link set target_parts = p_parts, updated_at = t where id = p_link returning * into l;
    elsif p_end = 'missed' then
        update link set missing_since = coalesce(missing_since, p_begun), updated_at = t where id = p_link returning * into l;
    elsif p_end = 'seen' then
        over := l.state = 'conflict' and l.conflict_cause = 'gone';
        update link set missing_since = null, state = case when over then 'linked' else l.state end,
            conflict_cause = case when over then null else l.conflict_cause end,
            last_error = case when over then null else l.last_error end, updated_at = t where id = p_link returning * into l;
    else
        update link set
            state = case p_end when 'deleted' then 'deleted' when 'conflict' then 'conflict' else l.state end,
            target_id = case when p_end = 'deleted' then null else l.target_id end,
            former_target_id = case when p_end = 'deleted' then coalesce(l.target_id, l.former_target_id) else l.former_target_id end,
            base = case when p_end = 'deleted' then '{}'::jsonb else l.base end,
            target_parts = case when p_end = 'deleted' then '{}'::jsonb else l.target_parts end,
            applied_k = case when p_end in ('unchanged', 'deleted') then greatest(l.applied_k, p_k) else l.applied_k end,
            conflict_cause = case p_end when 'deleted' then null when 'conflict' then p_cause else l.conflict_cause end,
            missing_since = case when p_end = 'deleted' then null else l.missing_since end,
            last_error = case when p_end = 'conflict' then p_note ->> 'reason' when p_end in ('unchanged', 'deleted') then null else l.last_error end,
            recheck_at = case when p_end in ('rechecked', 'conflict') then t + p_recheck_ms * interval '1 ms' else l.recheck_at end,
            recheck_step = case when p_end in ('rechecked', 'conflict') then p_recheck_step else l.recheck_step end,
            lease_token = null, lease_until = null, claim = null, updated_at = t
            where id = p_link returning * into l;
        delete from unsettled_claim where token = p_token;
        if p_end in ('unchanged', 'deleted') then
            perform close_covered(p_link, p_source, p_event);
        end if;
        if p_end = 'deleted' then
            delete from natural_key_claim where link_id = p_link;
        elsif p_end = 'unchanged' and p_keys is not null then
            delete from natural_key_claim where link_id = p_link and natural_key not in (select jsonb_array_elements_text(p_keys));
        end if;
    end if;
    if p_end not in ('noted', 'resolved') then
        insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, target_id, detail)
        values (l.id, l.tenant, t, p_end, p_k, p_source, p_event, p_generation, coalesce(l.target_id, old_target), coalesce(p_note, '{}'));
    end if;
    return jsonb_build_object('guarded', false, 'link', link_json(l), 'open', open_effect(p_link));
end $$;
-- What becomes of held events, and of a connection that is suspended.

-- The partner refused the credentials of this epoch. False: they were changed, tested or suspended meanwhile. The one
-- place where a connection is suspended: state, epoch and notification are one transaction.
create or replace function suspend_connection(p_tenant text, p_connection uuid, p_epoch bigint, p_reason text) returns boolean
    language plpgsql volatile as $$
declare c connection;
begin
    update connection set state = 'suspended', state_reason = p_reason, epoch = epoch + 1, updated_at = clock_timestamp()
        where id = p_connection and tenant = p_tenant and epoch = p_epoch and state = 'ok' returning * into c;
    if not found then
        return false;
    end if;
    insert into notification (tenant, kind, connection_id, epoch, at, text)
    values (c.tenant, 'connection_suspended', c.id, c.epoch, kurir_now(),
        'the connection to ' || c.system || ' is suspended: ' || coalesce(p_reason, 'no reason given'));
    return true;
end $$;

-- Whether what a held event waits for is there. Nothing named: nobody knows, so no.
create or replace function wait_is_over(p_tenant text, p_system text, p_connection uuid, p_link bigint, p_kind text, p_of_system text,
    p_of_account text, p_of_id text, p_key text) returns boolean language sql stable as $$
    select case
        when p_key is not null then not exists (select 1 from natural_key_claim where tenant = p_tenant and connection_id = p_connection
            and kind = p_kind and natural_key = p_key and link_id is distinct from p_link)
        when p_of_id is not null then exists (select 1 from link where tenant = p_tenant and kind = p_kind and source_system = p_of_system
            and source_account = p_of_account and source_id = p_of_id and target_system = p_system
            and connection_id = p_connection and state in ('linked', 'alias'))
        else false end
$$;

-- Rows that the caller has picked and locked go back to their workers, with the counters of a first delivery and the same
-- generation. p_headers: more headers for them. p_actor: whoever does it by hand; then their claims that never came back are
-- forgotten, while what leaves by itself has only waited: an event that ends its workers must not begin anew with each wait.
-- A conflict that is released counts as settled; its links are locked by the caller before the rows.
create or replace function release_held(p_ids bigint[], p_prefix text, p_headers jsonb, p_actor text) returns bigint language plpgsql volatile as $$
declare n bigint;
begin
    with gone as (delete from held where id = any (p_ids) returning *),
        forgiven as (
            delete from unsettled_claim u using gone g, link l
            where p_actor is not null and l.id = u.link_id and u.tenant = g.tenant and u.source = g.source and u.event_id = g.event_id
              and l.target_system = g.target_system and (g.connection_id is null or l.connection_id = g.connection_id)),
        settled as (
            update link l set state = case when l.target_id is null then 'pending' else 'linked' end, conflict_cause = null,
                -- Whoever says that it is settled wants it looked at anew.
                missing_since = null, last_error = null, updated_at = kurir_now()
            from gone g where l.id = g.link_id and l.state = 'conflict' and g.reason = 'conflict'),
        told as (
            insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
            select link_id, tenant, kurir_now(), 'released', k, source, event_id, generation,
                jsonb_build_object('reason', reason, 'actor', p_actor)
            from gone where link_id is not null and p_actor is not null),
        sent as (
            insert into outbox (tenant, exchange, routing_key, body, properties, headers, next_try_at)
            select tenant, '', p_prefix || '.' || worker, body, properties,
                fresh_headers(headers) || jsonb_build_object('x-generation', generation) || p_headers, kurir_now()
            from gone order by lane, id returning 1)
    select count(*) into n from sent;
    return n;
end $$;

-- A person gives a held event up: as a dead letter nobody will replay, so that stale copies are recognised. The row is named
-- together with the event that was seen in it: a newer one may have taken its place.
create or replace function discard_held(p_tenant text, p_id bigint, p_source text, p_event text, p_generation int, p_dead_id uuid,
    p_queue text, p_actor text, p_note text) returns boolean
    language plpgsql volatile as $$
declare h held; t timestamptz;
begin
    select * into h from held where id = p_id and tenant = p_tenant and source = p_source and event_id = p_event
        and generation = p_generation;
    if not found then
        return false;
    end if;
    if h.link_id is not null then
        perform 1 from link where id = h.link_id for update;
    end if;
    delete from held where id = p_id and source = p_source and event_id = p_event and generation = p_generation returning * into h;
    if not found then
        return false;
    end if;
    t := kurir_now();
    insert into dead_letter as v (id, worker, tenant, connection_id, source, event_id, type, subject, link_id, k, state, generation,
        class, fingerprint, message, body, properties, headers, first_at, last_at, resolved_by, resolved_at, note)
    values (p_dead_id, h.worker, h.tenant, h.connection_id, h.source, h.event_id, h.type, h.subject, h.link_id, h.k, 'discarded',
        h.generation, h.reason, 'held:' || h.reason, h.detail, h.body, h.properties, h.headers, h.held_at, t, p_actor, t, p_note)
    on conflict (id) do update set state = 'discarded', generation = excluded.generation, last_at = excluded.last_at,
        resolved_by = excluded.resolved_by, resolved_at = excluded.resolved_at, note = excluded.note, held_for = null, row_version = v.row_version + 1;
    -- A replay's letter may have died before it had a connection, and has another id then.
    update dead_letter set state = 'discarded', resolved_by = p_actor, resolved_at = t, note = p_note, held_for = null,
        row_version = row_version + 1
        where id = (h.headers ->> 'x-letter')::uuid and id <> p_dead_id and tenant = h.tenant and worker = h.worker
          and generation = h.generation and (state = 'replaying' or held_for is not null);
    insert into audit (actor, what, tenant, detail, at)
    values (p_actor, 'held.discard', h.tenant, jsonb_build_object('held', h.id, 'source', h.source, 'event', h.event_id,
        'generation', h.generation, 'cause', h.reason, 'dead_letter', p_dead_id, 'note', p_note), t);
    if h.link_id is not null and h.k is not null then
        perform fall_back(h.link_id, h.k, p_queue);
        insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
        values (h.link_id, h.tenant, t, 'discarded', h.k, h.source, h.event_id, h.generation, jsonb_build_object('actor', p_actor, 'note', p_note));
    end if;
    return true;
end $$;
-- What the gate says of a suspended connection (`worker::gate`).
create or replace function suspended_words() returns text language sql immutable as $$
    select 'the connection is suspended; repair its credentials, then run `kurir connection test`'
$$;

-- Hold a batch. p_items: array of hold_item; p_bodies[idx + 1] is the envelope. A request of ours names its link,
-- and is held for that link's connection. A budget and a circuit are known from a worker's memory: where the connection is
-- suspended by now, that is what holds the event. Verdicts: held | cause_gone | covered.
create or replace function hold_events(p_items jsonb, p_bodies bytea[]) returns table (idx int, verdict text) language plpgsql volatile as $$
declare i record; l link; h held; t timestamptz; key_text text; coalesces boolean; done boolean; n_headers jsonb; letter uuid;
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
        -- The letter that this event is a replay of.
        select id into letter from dead_letter where id = (i.headers ->> 'x-letter')::uuid and tenant = i.tenant and worker = i.worker;
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
                perform close_letter(letter, i.generation, 'resolved', null, null, t);
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
                    -- Its letter waits for what the newer one waits for.
                    perform close_letter(letter, i.generation, 'resolved', h.reason, null, t);
                    update dead_letter set link_id = l.id, k = i.key where id = letter and generation = i.generation and held_for is not null;
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
            on conflict (worker, tenant, source, event_id, connection_id) where link_key is null
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
        -- Held again for another cause, the letter says the new one. Its link closes it, whatever it knew when it died.
        perform close_letter(letter, i.generation, 'resolved', i.cause, null, t);
        update dead_letter set link_id = coalesce(l.id, link_id), k = coalesce(i.key, k)
            where id = letter and generation = i.generation and held_for is not null;
        if key_text is not null then
            -- Older ones of this record that gave way here wait for the same.
            update dead_letter set held_for = i.cause, row_version = row_version + 1
                where link_id = l.id and k < i.key and held_for <> i.cause;
        end if;
        verdict := 'held'; return next;
    end loop;
end $$;
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
-- Dead letters of a link's events: which live on in a replay, and what closes them.

-- A letter whose replay is under way, sent or sent and held since, reaches the state p_state; else nothing changes. p_held_for: its
-- event is held for this cause, so it ends for now only. p_note: how it ended, where its state does not say it.
create or replace function close_letter(p_letter uuid, p_generation int, p_state text, p_held_for text, p_note text, t timestamptz)
    returns void language plpgsql volatile as $$
begin
    update dead_letter set state = p_state, resolved_by = 'kurir', resolved_at = t, held_for = p_held_for,
        note = case when p_held_for is null then coalesce(p_note, note) end, row_version = row_version + 1
        where id = p_letter and generation = p_generation and (state = 'replaying' or held_for is not null);
end $$;

-- After applied_k rose: what it covers is finished. The caller has locked the link.
create or replace function close_covered(p_link bigint, p_source text, p_event text) returns void language plpgsql volatile as $$
declare l link;
begin
    select * into l from link where id = p_link;
    delete from link_event where link_id = p_link and k <= l.applied_k;
    update link_history set body = null where link_id = p_link and what = 'kept_out' and body is not null and k <= l.applied_k;
    update dead_letter set state = case when source = p_source and event_id = p_event then 'resolved' else 'overtaken' end,
        resolved_by = 'kurir', resolved_at = kurir_now(), held_for = null, row_version = row_version + 1
        where link_id = p_link and k <= l.applied_k and (state in ('open', 'replaying')
            or (state = 'discarded' and source = p_source and event_id = p_event)
            -- A replay of it was held, and has come home or was overtaken meanwhile.
            or held_for is not null);
    insert into link_history (link_id, tenant, at, what, k, source, event_id, generation, detail)
        select p_link, l.tenant, kurir_now(), 'held_overtaken', k, source, event_id, generation, jsonb_build_object('reason', reason)
        from held where link_id = p_link and k <= l.applied_k;
    delete from held where link_id = p_link and k <= l.applied_k;
    delete from unsettled_claim where link_id = p_link and source = p_source and event_id = p_event;
end $$;

-- The letter that an event is a replay of. Its id is made of the event and its connection, but a letter may have died
-- before it had a connection, or unreadable: a replay names it.
create or replace function letter_of(p_headers jsonb, p_dead_id uuid) returns uuid language sql immutable as $$
    select coalesce((p_headers ->> 'x-letter')::uuid, p_dead_id)
$$;
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
create or replace function given_up(l link, t timestamptz) returns jsonb language plpgsql volatile as $$
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
-- The links that a batch names, by id or by key: those that are missing are made in the order of their keys (p_make),
-- then all are locked in the order of their ids. Every function locks in this order, and takes other rows only after it,
-- so batches wait for each other and never in a circle.
create or replace function lock_links(p_items jsonb, p_make boolean) returns void language plpgsql volatile as $$
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
        insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id, created_at, updated_at)
        select distinct tenant, kind, source_system, source_account, source_id, target_system, connection_id, t, t
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
-- A letter that moves takes its items along: the one of this life, and the one that has not been sent yet.
create or replace function follow_replay() returns trigger language plpgsql as $$
declare died boolean := new.deaths > old.deaths;
begin
    update replay_item set at = kurir_now(),
        state = case when died then 'failed' when new.held_for is not null then 'held' when new.state = 'resolved' then 'done'
            when new.state = 'overtaken' then 'overtaken' else 'skipped' end,
        held_for = case when not died then new.held_for end,
        detail = case when died then new.fingerprint
            when new.state = 'discarded' then 'discarded by ' || coalesce(new.resolved_by, 'nobody') end
        where dead_id = new.id and generation = new.generation and state <> 'waiting' and (
            (died and state in ('sent', 'retrying', 'held', 'done'))
            or (new.state in ('resolved', 'overtaken', 'discarded') and state in ('sent', 'retrying', 'held')));
    if new.state in ('resolved', 'overtaken', 'discarded') then
        update replay_item set at = kurir_now(),
            state = case new.state when 'overtaken' then 'overtaken' else 'skipped' end,
            detail = new.state || coalesce(' by ' || new.resolved_by, '')
            where dead_id = new.id and state = 'waiting';
    end if;
    return null;
end $$;
create or replace trigger dead_letter_moves after update on dead_letter for each row
    when (old.state is distinct from new.state or old.deaths is distinct from new.deaths or old.held_for is distinct from new.held_for)
    execute function follow_replay();
