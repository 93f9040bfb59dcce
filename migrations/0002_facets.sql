-- One event, several links: what is held and what died says which of them it was for. The header of the copy says it, so nobody
-- writes it twice.
alter table held add column facet text generated always as (headers ->> 'x-facet') stored;
drop index held_one_per_fact;
create unique index held_one_per_fact on held (worker, tenant, source, event_id, connection_id, facet) nulls not distinct
    where link_key is null;

alter table dead_letter add column facet text generated always as (headers ->> 'x-facet') stored;
