-- Endings without a call, and what a look at the partner taught: token mine and (unless p_despite_open) no open effect.
-- p_end: unchanged | deleted | adopted | noted | missed | seen | conflict | resolved | rechecked. adopted, noted, missed and seen
-- keep the lease. missed: a look that began at p_begun does not show the record. seen: one does, so what was concluded from
-- such looks is over. p_cause: of a conflict. p_outcome: what became of the event.
create or replace function finish_link(p_link bigint, p_token uuid, p_end text, p_k bytea, p_source text, p_event text, p_generation int,
    p_target text, p_base jsonb, p_parts jsonb, p_keys jsonb, p_note jsonb, p_despite_open boolean,
    p_recheck_ms bigint, p_recheck_step int, p_cause text, p_begun timestamptz, p_outcome jsonb, p_outcomes text)
    returns jsonb language plpgsql volatile as $$
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
    perform write_outcome(l.tenant, p_outcomes, p_outcome, t);
    return jsonb_build_object('guarded', false, 'link', link_json(l), 'open', open_effect(p_link));
end $$;
