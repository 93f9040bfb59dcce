-- What the keeper counts every quarter of a minute is counted from small indexes.

create index link_in_conflict on link (target_system) where state = 'conflict';
create index dead_letter_unsettled on dead_letter (worker, class, state, last_at) where state in ('open', 'replaying');
