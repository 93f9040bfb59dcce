-- A dead letter that moves takes its items along: the one of this life, and the one that has not been sent yet.
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
