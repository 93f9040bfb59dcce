-- Dead letters of a link's events: which live on in a replay, and what closes them.

-- A letter whose replay is under way: sent, or sent and held since.
create or replace function lives_on(p_state text, p_resolved_by text, p_note text) returns boolean language sql immutable as $$
    select coalesce(p_state = 'replaying' or (p_state = 'resolved' and p_resolved_by = 'kurir' and p_note like 'held: %'), false)
$$;

-- What is left of a letter's note when it is held no more, be it of a former life: whoever reads `held: ` believes it.
create or replace function closed_note(p_note text) returns text language sql immutable as $$
    select case when p_note like 'held: %' then null else p_note end
$$;

-- After applied_k rose: what it covers is finished. The caller has locked the link.
create or replace function close_covered(p_link bigint, p_source text, p_event text) returns void language plpgsql volatile as $$
declare l link;
begin
    select * into l from link where id = p_link;
    delete from link_event where link_id = p_link and k <= l.applied_k;
    update link_history set body = null where link_id = p_link and what = 'kept_out' and body is not null and k <= l.applied_k;
    update dead_letter set state = case when source = p_source and event_id = p_event then 'resolved' else 'overtaken' end,
        resolved_by = 'kurir', resolved_at = kurir_now(), row_version = row_version + 1,
        note = closed_note(note)
        where link_id = p_link and k <= l.applied_k and (state in ('open', 'replaying')
            or (state = 'discarded' and source = p_source and event_id = p_event)
            -- A replay of it was held, and has come home or was overtaken meanwhile.
            or (state = 'resolved' and resolved_by = 'kurir' and note like 'held: %'));
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
