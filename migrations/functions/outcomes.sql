-- What became of an event leaves through the outbox, in the transaction of what it tells of.
create or replace function write_outcome(p_tenant text, p_exchange text, p_outcome jsonb, t timestamptz) returns void language sql volatile as $$
    insert into outbox (tenant, exchange, routing_key, body, properties, headers, created_at, next_try_at)
    select p_tenant, p_exchange, p_outcome ->> 'routing_key', convert_to(p_outcome ->> 'body', 'utf8'), p_outcome -> 'properties',
        p_outcome -> 'headers', t, t
    where p_outcome is not null
$$;
