-- What became of an event leaves through the outbox, in the transaction of what it tells of.
create or replace function tell(p_tenant text, p_exchange text, p_tells jsonb, t timestamptz) returns void language sql volatile as $$
    insert into outbox (tenant, exchange, routing_key, body, properties, headers, created_at, next_try_at)
    select p_tenant, p_exchange, p_tells ->> 'routing_key', convert_to(p_tells ->> 'body', 'utf8'), p_tells -> 'properties',
        p_tells -> 'headers', t, t
    where p_tells is not null
$$;
