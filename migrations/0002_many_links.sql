-- One event, several links: what is held and what died says which of them it was for. The header of the copy says it, so nobody
-- writes it twice.
alter table held add column facet text generated always as (headers ->> 'x-facet') stored;
drop index held_one_per_fact;
create unique index held_one_per_fact on held (worker, tenant, source, event_id, connection_id, facet) nulls not distinct
    where link_key is null;

alter table dead_letter add column facet text generated always as (headers ->> 'x-facet') stored;

-- References: what a link's content names of other links. Array of {link, target_id}, of the last call that said any.
alter table link add column refers jsonb not null default '[]';
-- Array of {kind, source_system, source_account, source_id}.
alter type claim_item add attribute refs jsonb;
-- Its content is made under the lease: what an earlier call of the event carried is answered with the grant.
alter type claim_item add attribute later boolean;
-- Array of {link, target_id}: sent only while each of these links has this target.
alter type reserve_item add attribute refs jsonb;
-- What became of an event: {routing_key, body, properties, headers}, written to the outbox with what it tells of.
alter type complete_item add attribute outcome jsonb;
alter type dead_item add attribute outcome jsonb;
-- A reference as the envelope names it.
create type reference as (
    kind text,
    source_system text,
    source_account text,
    source_id text
);
