-- Dead letters of a link's events: which live on in a replay, and what closes them.

-- A dead letter whose replay is under way, sent or sent and held since, reaches the state p_state; else nothing changes. p_held_for: its
-- event is held for this cause, so it ends for now only. p_note: how it ended, where its state does not say it.
create or replace function close_dead_letter(p_dead_letter uuid, p_generation int, p_state text, p_held_for text, p_note text, t timestamptz)
    returns void language plpgsql volatile as $$
begin
    update dead_letter set state = p_state, resolved_by = 'kurir', resolved_at = t, held_for = p_held_for,
        note = case when p_held_for is null then coalesce(p_note, note) end, row_version = row_version + 1
        where id = p_dead_letter and generation = p_generation and (state = 'replaying' or held_for is not null);
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

-- The dead letter that an event is a replay of. Its id is made of the event and its connection, but a dead letter may have died
-- before it had a connection, or unreadable: a replay names it.
create or replace function dead_letter_of(p_headers jsonb, p_dead_id uuid) returns uuid language sql immutable as $$
    select coalesce((p_headers ->> 'x-dead-letter')::uuid, p_dead_id)
$$;
