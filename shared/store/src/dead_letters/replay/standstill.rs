//! Dead letters that were held for a moment, at a connection that lets nothing go any more.

use crate::{Error, Pool};

/// A budget and a circuit end by themselves, so a replay waits for the dead letters that are held for them; a suspension and a
/// switch do not. What such a connection holds is told by that from now on, in every replay, and nobody waits for it;
/// it goes on by itself when the connection does. Answers how many dead letters.
pub async fn stand_still(pool: &Pool) -> Result<u64, Error> {
    // The items alone are locked: whoever moves a dead letter locks that first.
    Ok(sqlx::query(
        "update replay_item i set at = kurir_now(), held_for = stopped.cause, detail = stopped.why
         from (
           select i.replay_id, i.dead_id,
             case when c.enabled then 'suspended' else 'switched_off' end as cause,
             case when not c.enabled then 'its connection is switched off' end as why
           from replay_item i join dead_letter d on d.id = i.dead_id
             left join link l on l.id = d.link_id and l.tenant = d.tenant
             left join lateral (
               select connection_id from held where worker = d.worker and tenant = d.tenant and source = d.source
                 and event_id = d.event_id and generation = i.generation
                 and (d.facet is null or facet = d.facet) limit 1) h on true
             join connection c on c.id = coalesce(h.connection_id, l.connection_id, d.connection_id) and c.tenant = d.tenant
           where i.held_for in ('budget', 'circuit') and (c.state = 'suspended' or not c.enabled)
           order by i.replay_id, i.dead_id for update of i skip locked) stopped
         where i.replay_id = stopped.replay_id and i.dead_id = stopped.dead_id",
    )
    .execute(pool)
    .await?
    .rows_affected())
}
